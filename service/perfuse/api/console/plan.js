// Plans, drawn on their maze with x downwards and y to the right, as the layouts are written.
import { get } from "./http.js";
import { all, calm, draw, figure, find, make } from "./elements.js";
import { generating } from "./generate.js";
/** Walls are #. Cell (r, c) covers r - 0.7 to r + 0.3 m in x, and likewise in y. */
const MAZES = {
  "maze2d-umaze": "##### #GOO# ###O# #OOO# #####",
  "maze2d-medium": "######## #OO##OO# #OO#OOO# ##OOO### #OO#OOO# #O#OO#O# #OOO#OG# ########",
  "maze2d-large": "############ #OOOO#OOOOO# #O##O#O#O#O# #OOOOOO#OOO# #O####O###O# #OO#O#OOOOO# ##O#O#O#O### "
    + "#OO#OOO#OGO# ############",
};
const [LOW, BALL] = [-0.7, 0.1];
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${y.toFixed(3)} ${x.toFixed(3)}`).join("");
/** The ball that follows a trajectory in real time, or lies at its end where motion is unwelcome. */
function driven({ dt, states }) {
  const [x, y] = states.at(-1);
  const move = (attributeName, axis) => draw("animate", { attributeName, begin: "indefinite",
    values: states.map((state) => state[axis].toFixed(3)).join(";"), dur: `${dt * states.length}s` });
  return draw("circle", { r: BALL, cx: y, cy: x, class: "ball" }, ...(calm() ? [] : [move("cx", 1), move("cy", 0)]));
}
export function planView(view) {
  const [maze, plans, marks] = [find("#maze", view), draw("g"), draw("g")];
  function show({ candidates = [], trajectory, status }) {
    const stroke = (points, kind) => draw("path", { d: line(points), class: kind });
    plans.replaceChildren(...candidates.map((plan) => stroke(plan, "candidate")));
    if (trajectory) {
      plans.append(stroke(trajectory.states, status === "verified" ? "chosen" : "chosen open"), driven(trajectory));
      all("animate", plans).forEach((each) => each.beginElement());
    }
  }
  const { form, ...generation } = generating({
    view, path: "plan", pace: 200, show,
    ask: ({ x, y, vx, vy, gx, gy, reach, ...options }) =>
      ({ domain: "trajectory", state: [x, y, vx, vy], goal: { position: [gx, gy], tolerance: reach }, ...options }),
    begin: () => show({}),
    finish: (result, reel) => reel.add({ ...result, candidates: reel.last()?.candidates }),
    describe: ({ status, candidates, verification: { arrival_step: step, violations }, trajectory }) => [
      ["Status", make("span", { className: status === "verified" ? "good" : "warn" }, status)],
      ["Arrival", step === null ? "never" : `after ${figure(step * trajectory.dt)} s`],
      ["Valid", `${candidates.valid} of ${candidates.sampled}`], ["Violations", violations.slice(0, 3).join("; ")],
    ],
  });
  const { environment } = form.elements;
  function mark() {
    const [x, y, gx, gy, reach] = ["x", "y", "gx", "gy", "reach"].map((name) => form.elements[name].valueAsNumber || 0);
    marks.replaceChildren(draw("circle", { cx: gy, cy: gx, r: Math.max(reach, 0), class: "reach" }),
      draw("path", { d: `M${gy - 0.1} ${gx}h.2M${gy} ${gx - 0.1}v.2`, class: "goal" }),
      draw("circle", { cx: y, cy: x, r: BALL, class: "start" }));
  }
  function build() {
    const rows = (MAZES[environment.value] ?? "#").split(" ");
    const columns = [...rows[0]];
    const wall = (r) => (tile, c) => (tile === "#" ? `M${c + LOW} ${r + LOW}h1v1h-1z` : "");
    const tick = (x, y, text) => draw("text", { x, y, class: "tick" }, String(text));
    maze.setAttribute("viewBox", `${LOW} ${LOW} ${columns.length} ${rows.length}`);
    maze.replaceChildren(draw("path", { d: rows.flatMap((row, r) => [...row].map(wall(r))).join(""), class: "walls" }),
      tick(-0.2, -0.2, "x↓ y→"), ...rows.map((_, r) => tick(-0.2, r, r)).slice(1, -1),
      ...columns.map((_, c) => tick(c, -0.2, c)).slice(1, -1), marks, plans);
    show({});
    mark();
  }
  maze.onclick = ({ clientX, clientY }) => {
    const at = new DOMPoint(clientX, clientY).matrixTransform(maze.getScreenCTM().inverse());
    const which = form.elements.sets.value === "goal" ? "g" : "";
    [form.elements[`${which}x`].value, form.elements[`${which}y`].value] = [at.y.toFixed(2), at.x.toFixed(2)];
    show({});
    mark();
  };
  [form.oninput, environment.onchange] = [mark, build];
  /** The environments are those with a planner among the models. */
  async function load() {
    const { models } = await get("models");
    const names = models.filter(({ modality }) => modality === "trajectory").map(({ name }) => name.split("@")[0]);
    if (names.join() === [...environment.options].map((each) => each.value).join()) return;
    environment.replaceChildren(...names.map((name) => make("option", {}, name)));
    build();
  }
  return { ...generation, load };
}
