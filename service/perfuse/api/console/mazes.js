// Layouts of the environments: # is wall. Cell (r, c) covers r - 0.7 to r + 0.3 m in x, and likewise in y.
export const MAZES = {
  "maze2d-umaze": ["#####", "#GOO#", "###O#", "#OOO#", "#####"],
  "maze2d-medium": ["########", "#OO##OO#", "#OO#OOO#", "##OOO###", "#OO#OOO#", "#O#OO#O#", "#OOO#OG#", "########"],
  "maze2d-large": ["############", "#OOOO#OOOOO#", "#O##O#O#O#O#", "#OOOOOO#OOO#", "#O####O###O#", "#OO#O#OOOOO#",
    "##O#O#O#O###", "#OO#OOO#OGO#", "############"],
};
