// Takes the place of addOrder(), of orders.json and of the whole setInterval().
const hook = process.env.HOOK_URL ?? "http://127.0.0.1:8080";

export async function addOrder({ taskID, projectID }) {
  const reply = await fetch(`${hook}/orders`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ taskID, projectID }),
  });
  if (!reply.ok) throw new Error(await reply.text());
  return reply.json(); // on disk before this returns; sending it again is safe
}

export async function finishedFile(taskID) {
  const reply = await fetch(`${hook}/orders/grafx/${encodeURIComponent(taskID)}`);
  const order = await reply.json();
  if (order.state === "failed") throw new Error(`${order.cause}: ${order.reason}`);
  return order.state === "done" ? order.files[0].path : null; // null: not yet
}
