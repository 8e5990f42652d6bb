// The price while one types, from the gateway's own dry run; and the request as programs would send it.
const form = document.getElementById("try");
const price = document.getElementById("price");
const NUMBERS = new Set(["durationSeconds", "sampleCount", "seed"]);
let asking;

function body() {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (!value || ["form_token", "once", "mode"].includes(name)) continue;
    found[name] = NUMBERS.has(name) ? Number(value) : value;
  }
  return found;
}

async function quote() {
  asking?.abort();
  const asked = body();
  show(asked);
  if (!asked.prompt?.trim()) return say("The price is shown here once there is a prompt.", "");
  asking = new AbortController();
  const data = new FormData(form);
  try {
    const response = await fetch(`${form.dataset.api}/${data.get("mode")}/music_generate?dry_run=true`, {
      method: "POST", signal: asking.signal, body: JSON.stringify(asked),
      headers: { "Content-Type": "application/json", "X-Form-Token": data.get("form_token") },
    });
    const answer = await response.json();
    if (!response.ok) return say(answer.errors?.map((each) => `${each.field} ${each.detail}`).join(" ") ?? answer.detail, "bad");
    const plan = answer.plan;
    const how = `${answer.model}, ${plan.calls} ${plan.calls === 1 ? "call" : "calls"}${plan.takes_per_clip > 1 ? `, joined from ${plan.takes_per_clip}` : ""}`;
    if (answer.refusal) return say(`$${answer.price.usd} (${how}), but now it would be refused: ${answer.refusal.detail}`, "warn");
    say(`$${answer.price.usd}: ${how}. ${answer.warnings.join(" ")}`, "");
  } catch (error) {
    if (error.name !== "AbortError") say("The price cannot be had just now.", "warn");
  }
}

function say(text, kind) {
  price.textContent = text;
  price.className = `notice ${kind}`;
}

function show(asked) {
  const text = JSON.stringify(asked, null, 2);
  const url = form.dataset.url;
  const quoted = `'${text.replaceAll("'", `'"'"'`)}'`;
  const python = Object.entries(asked).map(([name, value]) => `        ${JSON.stringify(name)}: ${JSON.stringify(value)},\n`).join("");
  put("curl", `curl -X POST ${url} \\\n  -H "X-Api-Key: $API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d ${quoted}`);
  put("python", `import os\n\nimport requests\n\nresponse = requests.post(\n    ${JSON.stringify(url)},\n    headers={"X-Api-Key": os.environ["API_KEY"]},\n    json={\n${python}    },\n)\nresponse.raise_for_status()\nprint(response.json()["audio_url"])`);
  put("javascript", `const response = await fetch(${JSON.stringify(url)}, {\n  method: "POST",\n  headers: {"X-Api-Key": process.env.API_KEY, "Content-Type": "application/json"},\n  body: JSON.stringify(${text.replaceAll("\n", "\n  ")}),\n});\nif (!response.ok) throw new Error(await response.text());\nconsole.log((await response.json()).audio_url);`);
}

function put(name, text) {
  const place = document.getElementById(`code-${name}`);
  if (place) place.textContent = text;
}

let timer;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(quote, 350); });
if (form.elements.prompt.value) quote();
