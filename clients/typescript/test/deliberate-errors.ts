/**
 * Mistakes that the types must find.  `tsc` fails if one of the marked lines has no error.
 */

import type { Kiro, KiroError, TaskEvent } from "../src/index.js";

export async function mistakes(kiro: Kiro, error: KiroError): Promise<void> {
  // @ts-expect-error There is no such task.
  await kiro.ask("/kiro/write-poem", {});
  // @ts-expect-error The idea is missing.
  await kiro.ask("/kiro/generate-story", {});
  // @ts-expect-error The idea is a text.
  await kiro.ask("/kiro/generate-story", { idea: 5 });
  // @ts-expect-error The field has another name.
  await kiro.ask("/kiro/generate-story", { idea: "x", component: [] });
  const story = await kiro.ask("/kiro/generate-story", { idea: "x" });
  // @ts-expect-error A story has no such field.
  story.description;
  // @ts-expect-error No failure has this code.
  if (error.failure.code === "too_busy") return;
  // @ts-expect-error Most failures do not say when to ask again.
  error.failure.retryAfter.toFixed();
  // @ts-expect-error This one does not.
  if (error.failure.code === "answer_unfit") error.failure.retryAfter;
  // @ts-expect-error It is a number.
  if (error.failure.code === "all_workers_busy") error.failure.retryAfter.trim();
  // @ts-expect-error A job does not end like this.
  const state: "ended" = (await kiro.api.GET("/jobs/{id}", { params: { path: { id: "x" } } })).data?.state;
  // @ts-expect-error The path needs an identifier.
  await kiro.api.DELETE("/jobs/{id}");
  // @ts-expect-error The route has no such method.
  await kiro.api.PUT("/jobs/{id}", { params: { path: { id: "x" } } });
  // @ts-expect-error A priority is a number.
  await kiro.api.POST("/kiro/generate-story", { body: { idea: "x" }, params: { header: { "X-Priority": "high" } } });
  void state;
}

export function mistakeInEvent(event: TaskEvent<"/kiro/generate-story">): string | undefined {
  // @ts-expect-error Not every event has a text.
  event.data.text;
  // @ts-expect-error There is no such event.
  if (event.event === "done") return undefined;
  // @ts-expect-error The answer is a story.
  return event.event === "answer" ? event.data.given : undefined;
}
