"""temporary"""
def render(folder):
    return folder / "report.html"
