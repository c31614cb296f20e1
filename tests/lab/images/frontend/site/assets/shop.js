const state = document.getElementById("state");
const list = document.getElementById("items");

async function load() {
  const response = await fetch("/api/items?limit=20");
  if (!response.ok) throw new Error(`the backend answered ${response.status}`);
  const items = await response.json();
  for (const item of items) {
    const line = document.createElement("li");
    line.textContent = `${item.id}: ${item.name}`;
    list.append(line);
  }
  state.textContent = `${items.length} newest items`;
}

load().catch((error) => { state.textContent = `The shop is closed: ${error.message}`; });
