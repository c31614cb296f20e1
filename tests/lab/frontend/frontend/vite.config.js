import { execFileSync } from "node:child_process";
import { defineConfig } from "vite";

// The served site says which commit it was built from: whoever recovers it can see that the right one is up.
const commit = execFileSync("git", ["rev-parse", "HEAD"], { encoding: "utf8" }).trim();

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
