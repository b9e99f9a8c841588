/**
 * Write numbers, times and names for people.
 */

const NUMBER = new Intl.NumberFormat("en");
const TIME = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });

export const NONE = "–";

export function count(number) {
  return number === null || number === undefined ? NONE : NUMBER.format(number);
}

/** Return "1 worker" or "2 workers". */
export function counted(number, noun) {
  return `${NUMBER.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Return a measured duration in seconds with three digits or so, such as "840 ms" or "3 m 20 s". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 0.00005) return "0 ms";
  if (seconds < 0.0995)
    return `${Math.max(0, seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return span(seconds);
}

/** Return a duration in seconds in whole units, at most two of them, such as "12 s" or "2 h 5 m". */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const whole = Math.max(0, Math.floor(seconds));
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["m", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => whole >= size);
  if (first === -1) return "0 s";
  const [name, size] = units[first];
  const parts = [`${Math.floor(whole / size)} ${name}`];
  const rest = units[first + 1];
  if (rest !== undefined && whole % size >= rest[1]) {
    parts.push(`${Math.floor((whole % size) / rest[1])} ${rest[0]}`);
  }
  return parts.join(" ");
}

/** Return a running clock such as "0:07" or "1:02:09". */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours > 0
    ? `${hours}:${two(minutes)}:${two(whole % 60)}`
    : `${minutes}:${two(whole % 60)}`;
}

export function bytes(number) {
  if (number === null || number === undefined) return NONE;
  const units = ["B", "KB", "MB", "GB", "TB"];
  let [value, unit] = [number, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function percent(number) {
  return number === null || number === undefined
    ? NONE
    : `${number.toFixed(number < 10 ? 1 : 0)} %`;
}

export function time(milliseconds) {
  return milliseconds === null || milliseconds === undefined ? NONE : TIME.format(milliseconds);
}

export function date(milliseconds) {
  return milliseconds === null || milliseconds === undefined ? NONE : DATE.format(milliseconds);
}

/** Return a name from JSON as words: "storyPoint" and "first_output" become two words each. */
export function words(name) {
  const text = name
    .replace(/_/g, " ")
    .replace(/([a-z])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return the sentence with a full stop. */
export function sentence(text) {
  return /[.!?…]$/.test(text) ? text : `${text}.`;
}
