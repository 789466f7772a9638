"""temporary"""
def headline(scenario, attacks, privacy, utility):
    return "headline"
