/* A browser starts no worker from file://, and the search of the site is one. There, a hidden frame does a worker's duty:
   it loads the same script, gets the same messages and answers them. Served over http the browser's own Worker stays. */
(() => {
  if (location.protocol !== "file:") return;

  class FrameWorker extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.scope = frame.contentWindow;
      this.ready = this.begin(String(url));
    }

    begin(url) {
      const { scope } = this;
      scope.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        this.onmessage?.(event);
      };
      scope.importScripts = (...urls) =>
        urls.reduce((before, one) => before.then(() => load(scope, one)), Promise.resolve());
      return load(scope, url);
    }

    postMessage(data) {
      this.ready.then(() => this.scope.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.scope.frameElement?.remove();
    }
  }

  const load = (scope, url) =>
    new Promise((done, failed) => {
      const script = scope.document.createElement("script");
      script.onload = done;
      script.onerror = () => failed(new Error(`cannot load ${url}`));
      script.src = url;
      scope.document.body.append(script);
    });

  // the search's script asks for this name to find its languages beside itself
  window.IFrameWorker = FrameWorker;
  window.Worker = FrameWorker;
})();
