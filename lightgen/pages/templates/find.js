// Shows what holds all words of the search box, and counts it; a chip puts its word there.
const box = document.querySelector("#find");
const found = document.querySelector("#found");
const things = [...document.querySelectorAll("[data-find]")];
const texts = things.map((one) => (one.dataset.find + " " + one.textContent).toLowerCase());
function show() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  things.forEach((one, place) => {
    one.hidden = !words.every((word) => texts[place].includes(word));
    count += !one.hidden;
  });
  found.textContent = words.length ? count + " of " + things.length : "";
}
box.addEventListener("input", show);
document.querySelectorAll("button.chip").forEach((chip) => chip.addEventListener("click", () => {
  box.value = box.value === chip.value ? "" : chip.value;
  show();
}));
