// What goes on while a page is open: #live is fetched anew when something happened, and players know their waves.
let source;

function begin() {
  const live = document.getElementById("live");
  players(live);
  source?.close();
  if (live.dataset.events) listen(live);
  else if (live.dataset.live) setTimeout(renew, Number(live.dataset.live));
}

async function renew() {
  if (document.hidden) return setTimeout(renew, 3000);
  // Nothing is taken away from under somebody's hands.
  const busy = [...document.querySelectorAll("audio")].some((each) => !each.paused) || document.querySelector("dialog[open]");
  if (busy) return setTimeout(renew, 3000);
  try {
    const response = await fetch(location.href);
    const found = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
    if (!response.ok || !found) throw new Error(response.status);
    document.getElementById("live").replaceWith(found);
    for (const each of found.querySelectorAll("time[datetime]")) {
      each.textContent = new Date(each.dateTime).toLocaleString(undefined, { dateStyle: "medium", timeStyle: each.dataset.exact === undefined ? "short" : "medium" });
    }
    begin();
  } catch {
    setTimeout(renew, 5000);
  }
}

function listen(live) {
  source = new EventSource(live.dataset.events);
  const text = document.getElementById("progress-text");
  source.addEventListener("queued", (event) => {
    const place = JSON.parse(event.data).queue;
    if (!place) return;
    const left = place.starts_in_s === null ? "" : `; about ${Math.round(place.starts_in_s)} s until it starts`;
    text.textContent = `Waiting, number ${place.position} in line${left}.`;
  });
  source.addEventListener("running", () => { text.textContent = "Being made."; });
  source.addEventListener("take", (event) => {
    const take = JSON.parse(event.data);
    text.textContent = `Being made: part ${take.take} of ${take.of} of clip ${take.index + 1} is there.`;
  });
  source.addEventListener("clip", (event) => { text.textContent = `Clip ${JSON.parse(event.data).index + 1} is there.`; });
  for (const end of ["succeeded", "failed", "canceled", "expired"]) {
    source.addEventListener(end, () => { source.close(); renew(); });
  }
}

function players(root) {
  for (const section of root.querySelectorAll(".clip")) {
    const [wave, audio] = [section.querySelector("[data-wave]"), section.querySelector("audio")];
    if (!wave) continue;
    const bars = wave.querySelectorAll("rect");
    const paint = () => {
      const done = audio.duration ? audio.currentTime / audio.duration * bars.length : 0;
      bars.forEach((bar, index) => bar.setAttribute("class", index < done ? "done" : "rest"));
    };
    audio.addEventListener("timeupdate", paint);
    wave.addEventListener("click", (event) => {
      const box = wave.getBoundingClientRect();
      if (audio.duration) audio.currentTime = (event.clientX - box.left) / box.width * audio.duration;
      audio.play();
    });
  }
}

begin();
