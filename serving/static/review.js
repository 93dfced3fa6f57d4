// Keys, dialogs and uploads. Pages work without this file, except for the progress of an upload.
(() => {
  const typing = (e) => e.target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select");
  const open = () => document.querySelector("dialog[open]");
  const crops = () => [...document.querySelectorAll("[data-crop]")];
  let chosen = 0;

  function choose(step) {
    const all = crops();
    if (!all.length) return;
    chosen = (chosen + step + all.length) % all.length;
    all[chosen].focus();
  }

  function show(name) {
    const dialog = document.getElementById(name);
    if (!dialog) return;
    const select = dialog.querySelector("select[name=instance_id]");
    const crop = crops()[chosen];
    if (select && crop) select.value = crop.dataset.instance;
    dialog.showModal();
    const field = dialog.querySelector("input:not([type=hidden]), select");
    if (field) { field.focus(); if (field.select) field.select(); }
  }

  document.addEventListener("focusin", (e) => {
    const crop = e.target.closest("[data-crop]");
    if (crop) chosen = crops().indexOf(crop);
  });

  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || typing(e) || open()) return;
    if (e.key === "ArrowRight" || e.key === "ArrowLeft") {
      if (crops().length) { e.preventDefault(); choose(e.key === "ArrowRight" ? 1 : -1); }
      return;
    }
    const target = document.querySelector(`[data-key="${CSS.escape(e.key)}"]`);
    if (target) { e.preventDefault(); target.click(); }
  });

  document.addEventListener("click", (e) => {
    const opener = e.target.closest("[data-open]");
    if (opener) show(opener.dataset.open);
    if (e.target.closest("[data-close]")) e.target.closest("dialog").close();
    const back = e.target.closest("[data-back]");
    if (back && history.length > 1) { e.preventDefault(); history.back(); }
    const crop = e.target.closest("[data-crop]");
    if (crop) crop.classList.toggle("large");
  });

  // What was shown stays shown on the next page.
  for (const box of document.querySelectorAll("#show-pattern, #show-lines, #show-turned")) {
    const kept = sessionStorage.getItem(box.id);
    if (kept !== null) box.checked = kept === "1";
    box.addEventListener("change", () => sessionStorage.setItem(box.id, box.checked ? "1" : "0"));
  }
  // A form is sent once.
  document.addEventListener("submit", (e) => {
    if (e.target.method !== "post" || e.target.id === "upload") return;
    if (e.target.dataset.sent) e.preventDefault();
    e.target.dataset.sent = "1";
  });
  window.addEventListener("pageshow", (e) => {
    if (e.persisted) for (const f of document.forms) delete f.dataset.sent;
  });

  const form = document.getElementById("upload");
  if (!form) return;
  const drop = document.getElementById("drop"), said = document.getElementById("chosen");
  const input = form.querySelector("input[type=file]");
  let files = [];
  const tell = () => {
    const size = files.reduce((n, f) => n + f.file.size, 0) / 1e6;
    said.textContent = files.length ? `${files.length} file${files.length > 1 ? "s" : ""}, ${size.toFixed(1)} MB` : "jpg, png, tif, webp, or ZIPs of them";
  };
  input.addEventListener("change", () => {
    files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    tell();
  });
  async function walk(entry, found) {
    if (entry.isFile) {
      const file = await new Promise((ok, no) => entry.file(ok, no));
      found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    } else {
      const reader = entry.createReader();
      for (;;) {
        const part = await new Promise((ok, no) => reader.readEntries(ok, no));
        if (!part.length) break;
        for (const e of part) await walk(e, found);
      }
    }
  }
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (e) => { e.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, (e) => { e.preventDefault(); drop.classList.remove("over"); });
  drop.addEventListener("drop", async (e) => {
    const entries = [...e.dataTransfer.items].map((i) => i.webkitGetAsEntry && i.webkitGetAsEntry()).filter(Boolean);
    const found = [];
    for (const entry of entries) await walk(entry, found);
    files = found;
    input.required = !files.length;
    tell();
  });
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    const data = new FormData();
    for (const name of ["sequence", "gap"]) data.append(name, form.elements[name].value);
    data.append("sequences", form.elements.sequences.value);
    data.append("once", form.dataset.once);
    for (const f of files) data.append("photos", f.file, f.name);
    const box = document.getElementById("sending"), bar = box.querySelector("progress"), line = box.querySelector("p");
    const button = form.querySelector("button");
    box.hidden = false;
    button.disabled = true;
    const request = new XMLHttpRequest();
    request.upload.onprogress = (p) => {
      bar.value = p.lengthComputable ? (100 * p.loaded) / p.total : 0;
      line.textContent = p.loaded < p.total ? `${(p.loaded / 1e6).toFixed(1)} of ${(p.total / 1e6).toFixed(1)} MB sent` : "Sent; the server reads the photos …";
    };
    const failed = (text) => { line.textContent = text; button.disabled = false; bar.value = 0; };
    request.onerror = () => failed("The server could not be reached. Send it again: nothing is taken twice.");
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* a proxy's page */ }
      if (request.status === 202 && answer.job) window.location.assign(answer.job);
      else failed(answer.detail || answer.title || `The server answered ${request.status}.`);
    };
    request.open("POST", "/upload");
    request.setRequestHeader("X-CSRF-Token", document.querySelector("meta[name=csrf]").content);
    request.setRequestHeader("Accept", "application/json");
    request.send(data);
  });
})();
