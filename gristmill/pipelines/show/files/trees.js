// The page of trees and steps: the list of problems, the tree of one, and the node that was picked.
let view = null;

function draw(which) {
  const drawing = data[which];
  $("title").textContent = drawing.title;
  $("bad").textContent = number(drawing.scale[0]);
  $("good").textContent = number(drawing.scale[1]);
  $("ramp").style.background = ramp();
  view = new TreeView($("map"), drawing, index => {
    $("side").replaceChildren(...nodeDetail(drawing, index));
    history.replaceState(null, "", `#${which}.${index}`);
  });
}

data.forEach((d, i) => $("choose").append(el("option", { value: i }, clip(`${d.id}: ${one(d.problem)}`, 70))));
$("choose").addEventListener("change", () => { draw(+$("choose").value); view.pick(0); });
const [first, node] = location.hash.slice(1).split(".").map(Number);
$("choose").value = data[first] ? first : 0;
draw(+$("choose").value);
view.pick(view.marks[node] ? node : 0);
