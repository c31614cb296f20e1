import { execFileSync } from "node:child_process";
import { defineConfig } from "vite";

// The served site says which commit it was built from: whoever recovers it can see that the right one is up.
// A build container may lack git; a workflow that was started for another commit has that one in git only.
function head() {
  try {
    return execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();
  } catch {
    return process.env.GITHUB_SHA;
  }
}
const commit = head();

export default defineConfig({
  build: { target: "esnext" },
  plugins: [
    {
      name: "version",
      generateBundle() {
        this.emitFile({ type: "asset", fileName: "version.json", source: JSON.stringify({ commit }) });
      },
    },
  ],
});
