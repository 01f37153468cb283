// Plans: drawn on their maze, x downwards and y to the right, as the layouts are written.
import { get } from "./http.js";
import { calm, draw, figure, find, make, percent, said } from "./elements.js";
import { asking, film } from "./generate.js";
import { MAZES } from "./mazes.js";

const LOW = -0.7;
const BALL = 0.1;
const line = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${y.toFixed(3)} ${x.toFixed(3)}`).join("");

/** The walls of a maze, with its metres along the upper and left wall. */
function walls(layout) {
  const cells = layout.flatMap((row, r) => [...row].map((tile, c) => (tile === "#" ? `M${c + LOW} ${r + LOW}h1v1h-1z` : "")));
  const ticks = [
    ...layout.map((_, r) => draw("text", { x: LOW + 0.3, y: r, class: "tick" }, String(r))).slice(1, -1),
    ...[...layout[0]].map((_, c) => draw("text", { x: c, y: LOW + 0.35, class: "tick" }, String(c))).slice(1, -1),
    draw("text", { x: LOW + 0.3, y: LOW + 0.35, class: "tick" }, "m"),
  ];
  return [draw("path", { d: cells.join(""), class: "walls" }), ...ticks];
}

export function planView(view) {
  const form = find("#plan-form");
  const maze = find("#maze", view);
  const field = (name) => form.elements[name];
  const number = (name) => field(name).valueAsNumber || 0;
  const layer = { candidates: draw("g"), chosen: draw("path", { class: "chosen" }), marks: draw("g"), ball: draw("circle", { r: BALL, class: "ball" }) };
  let result = null;
  let driven = 0;

  function marks() {
    const [gx, gy, sx, sy] = ["goal_x", "goal_y", "x", "y"].map(number);
    layer.marks.replaceChildren(
      draw("circle", { cx: gy, cy: gx, r: Math.max(number("tolerance"), 0), class: "reach" }),
      draw("path", { d: `M${gy - 0.12} ${gx}h.24M${gy} ${gx - 0.12}v.24`, class: "goal" }),
      draw("circle", { cx: sy, cy: sx, r: BALL, class: "start" }));
  }

  function clear() {
    cancelAnimationFrame(driven);
    result = null;
    layer.candidates.replaceChildren();
    layer.chosen.setAttribute("d", "");
    layer.ball.setAttribute("visibility", "hidden");
  }

  function build() {
    const layout = MAZES[field("environment").value] ?? ["#"];
    maze.setAttribute("viewBox", `${LOW} ${LOW} ${layout[0].length} ${layout.length}`);
    clear();
    marks();
    maze.replaceChildren(...walls(layout), layer.marks, layer.candidates, layer.chosen, layer.ball);
  }

  /** The ball along the chosen trajectory, in real time. */
  function drive({ dt, states }) {
    const begun = performance.now();
    const frame = (now) => {
      const i = calm() ? states.length - 1 : Math.min(states.length - 1, Math.floor((now - begun) / 1000 / dt));
      layer.ball.setAttribute("visibility", "visible");
      layer.ball.setAttribute("cx", states[i][1]);
      layer.ball.setAttribute("cy", states[i][0]);
      if (i < states.length - 1) driven = requestAnimationFrame(frame);
    };
    cancelAnimationFrame(driven);
    driven = requestAnimationFrame(frame);
  }

  const reel = film(find(".film", view), (frame) => {
    const plans = frame.candidates ?? [];
    if (frame.candidates) layer.candidates.replaceChildren(...plans.map((plan) => draw("path", { d: line(plan), class: "candidate" })));
    layer.chosen.setAttribute("d", frame.trajectory ? line(frame.trajectory.states) : "");
    layer.chosen.classList.toggle("unproven", frame.status !== "verified");
    if (frame.trajectory) drive(frame.trajectory);
    else layer.ball.setAttribute("visibility", "hidden");
  }, 180);

  const generation = asking({
    view, path: "plan",
    ask() {
      const { environment, x, y, vx, vy, goal_x, goal_y, tolerance, ...options } = said(form);
      return { domain: "trajectory", environment, state: [x, y, vx, vy], goal: { position: [goal_x, goal_y], tolerance }, ...options };
    },
    begin() { clear(); reel.clear(); },
    step: reel.add,
    finish(answer) {
      result = answer;
      reel.add({ candidates: reel.last()?.candidates, trajectory: answer.trajectory, status: answer.status });
    },
    describe: ({ status, candidates, verification, trajectory, steps_done: steps }) => [
      ["Status", make("span", { className: status === "verified" ? "good" : "warn" }, status)],
      ["Arrival", verification.arrival_step === null ? "never" : `${figure(verification.arrival_step * trajectory.dt)} s, step ${verification.arrival_step}`],
      ["Valid candidates", `${candidates.valid} of ${candidates.sampled}, ${percent(candidates.valid / candidates.sampled)}`],
      ["Collision free", verification.collision_free ? "yes" : "no"],
      ["Violations", verification.violations.slice(0, 3).join("; ")],
      ["Steps", String(steps)],
    ],
  });

  maze.addEventListener("click", (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(maze.getScreenCTM().inverse());
    const names = field("sets").value === "goal" ? ["goal_x", "goal_y"] : ["x", "y"];
    field(names[0]).value = at.y.toFixed(2);
    field(names[1]).value = at.x.toFixed(2);
    clear();
    marks();
  });
  form.addEventListener("input", () => { if (!result) marks(); });
  field("environment").addEventListener("change", build);

  /** Environments are those with a planner among the models. */
  async function load() {
    const { models } = await get("models");
    const names = models.filter((model) => model.modality === "trajectory").map((model) => model.name.split("@")[0]);
    if (names.join() === [...field("environment").options].map((option) => option.value).join()) return;
    field("environment").replaceChildren(...names.map((name) => make("option", {}, name)));
    build();
  }
  return { ...generation, load };
}
