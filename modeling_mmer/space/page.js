// The server deletes a recording as soon as it is judged. The browser keeps it, to play parts of it, and to send it again
// when it is judged with other words.
const mmer = (() => {
  const kept = new Map(); // address of an upload → its content
  let player = null; // of the recording that was judged last
  let stopAt = Infinity;

  async function keep(recording) {
    if (!recording?.url || kept.has(recording.url)) return;
    const response = await fetch(recording.url);
    if (!response.ok) return;
    if (kept.size >= 3) kept.delete(kept.keys().next().value);
    kept.set(recording.url, await response.blob());
  }

  // An upload under a name that no other has. Gradio calls uploads by content and name: equal ones would be one file.
  async function uploaded(file, content) {
    const [, ending] = /(\.[^.\/]*)?$/.exec(file.orig_name ?? file.path);
    const form = new FormData();
    form.append("files", new File([content], `${crypto.randomUUID()}${ending ?? ""}`, { type: content.type }));
    const root = file.url.slice(0, file.url.lastIndexOf("/file="));
    const response = await fetch(`${root}/upload`, { method: "POST", body: form, credentials: "include" });
    if (!response.ok) throw new Error(await response.text());
    const [path] = await response.json();
    return { ...file, path, url: `${root}/file=${path}` };
  }

  async function send(recording, ...rest) {
    play.forget();
    document.querySelector("#mmer-answer")?.setAttribute("aria-busy", "true");
    if (!recording) return [recording, ...rest.slice(0, -1), ""];
    await keep(recording);
    const content = kept.get(recording.url);
    if (!content) return [recording, ...rest.slice(0, -1), ""];
    player = new Audio(URL.createObjectURL(content));
    player.addEventListener("timeupdate", () => player.currentTime >= stopAt && player.pause());
    player.addEventListener("pause", unmark);
    return [await uploaded(recording, content), ...rest.slice(0, -1), recording.path];
  }

  function unmark() {
    document.querySelectorAll(".mmer-playing").forEach((part) => part.classList.remove("mmer-playing"));
  }

  async function play(part) {
    const said = document.querySelector(".mmer-heard");
    const isPlaying = part.classList.contains("mmer-playing");
    player?.pause();
    unmark();
    if (isPlaying || !player) return;
    stopAt = Number(part.dataset.end);
    player.currentTime = Number(part.dataset.start);
    try {
      await player.play();
      part.classList.add("mmer-playing");
      if (said) said.textContent = part.getAttribute("aria-label").replace(/^Hear /, "Playing ");
    } catch {
      if (said) said.textContent = "This browser cannot play this kind of recording.";
    }
  }

  play.forget = () => {
    player?.pause();
    if (player) URL.revokeObjectURL(player.src);
    player = null;
  };

  // Lead a keyboard, a screen reader and a phone to the answer.
  function arrived() {
    requestAnimationFrame(() => {
      const answer = document.querySelector("#mmer-answer");
      const title = answer?.querySelector("h2");
      answer?.setAttribute("aria-busy", "false");
      title?.setAttribute("tabindex", "-1");
      title?.focus({ preventScroll: true });
      const box = answer?.getBoundingClientRect();
      if (box && (box.top < 0 || box.top > innerHeight / 2)) answer.scrollIntoView({ behavior: "smooth" });
    });
  }

  // Gradio writes the place in the queue above the answer ("queue: 3/6"), where a phone does not show it. Say it beside the
  // button, in words.
  function sayPlace() {
    const place = document.querySelector(".mmer-place");
    const shown = document.querySelector("#mmer-answer .progress-text")?.textContent ?? "";
    const before = Number(/queue: (\d+)/.exec(shown)?.[1] ?? NaN) - 1;
    const users = before === 1 ? "1 user" : `${before} users`;
    const said = Number.isNaN(before) ? "" : before ? `In the queue: ${users} before you.` : "In the queue: you are next.";
    if (place && place.textContent !== said) place.textContent = said;
  }

  new MutationObserver(sayPlace).observe(document, { childList: true, characterData: true, subtree: true });

  document.addEventListener("click", (event) => {
    const part = event.target.closest?.(".mmer-part, .mmer-hear");
    if (part) play(part);
  });

  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const part = event.target.closest?.(".mmer-part");
    if (!step || !part) return;
    event.preventDefault();
    const parts = [...part.parentElement.children];
    const next = parts[Math.min(parts.length - 1, Math.max(0, parts.indexOf(part) + step))];
    part.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  return { keep, send, arrived };
})();
window.mmer = mmer;
