export function line(item) {
  const element = document.createElement("li");
  element.textContent = `${item.id}: ${item.name}`;
  return element;
}
