import { line } from "./items.js";

const response = await fetch("/api/items?limit=20");
for (const item of await response.json()) {
  document.getElementById("items").append(line(item));
}
