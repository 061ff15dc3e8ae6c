// Pictures made beforehand follow their control: of the children of [data-follows], the one at its position is shown.
for (const control of document.querySelectorAll("[data-moves]")) {
  const stacks = [...document.querySelectorAll(`[data-follows="${control.dataset.moves}"]`)];
  const show = position => {
    for (const stack of stacks) [...stack.children].forEach((frame, place) => { frame.hidden = place !== position; });
    // The first that follows a slider is the value in words.
    if (control.type === "range") control.setAttribute("aria-valuetext", stacks[0].children[position].textContent);
  };
  if (control.type === "range") show(Number(control.value));
  control.addEventListener("input", event => show(Number(event.target.value)));
  const load = () => stacks.forEach(stack => stack.querySelectorAll("img").forEach(image => { image.loading = "eager"; }));
  for (const event of ["pointerenter", "focusin"]) control.addEventListener(event, load, {once: true});
}
