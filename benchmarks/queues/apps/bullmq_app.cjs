// BullMQ: `node bullmq_app.cjs worker`, or a producer as in ../produce.py, `fill ...` or `paced ...`. A job is removed
// when it has ended, so that no result is kept. What is written to PEERS_TALLY is told in ../jobs.py.

const fs = require("fs");
const { setTimeout: sleep } = require("timers/promises");
const { Queue, Worker } = require("bullmq");

const WIDTH = 3;
const IO_MS = 50;
const CHUNK = 1000;

const { hostname: host, port } = new URL(process.env.PEERS_URL);
const connection = { host, port: Number(port), maxRetriesPerRequest: null };
const now = () => Number(process.hrtime.bigint()) / 1e9; // the clock of Python's time.monotonic

function tally() {
  const count = Number(process.env.PEERS_COUNT);
  const live = Boolean(process.env.PEERS_LIVE); // write each job at once: many are not to be, few are waited for
  const file = fs.openSync(process.env.PEERS_TALLY, "r+");
  const cells = new Float64Array(WIDTH * count);
  const bytes = Buffer.from(cells.buffer);
  let seen = 0;
  return {
    began(number) {
      if (number >= 0) cells[WIDTH * number + 1] = now();
    },
    ended(number) {
      if (number < 0) return;
      cells[WIDTH * number + 2] = now();
      cells[WIDTH * number] += 1;
      seen += 1;
      const start = 8 * WIDTH * number;
      if (live) fs.writeSync(file, bytes, start, 8 * WIDTH, start);
      else if (seen >= count) fs.writeSync(file, bytes, 0, bytes.length, 0);
    },
  };
}

function work() {
  const { began, ended } = tally();
  const jobs = {
    no_op: async (number) => {
      began(number);
      ended(number);
    },
    io: async (number) => {
      began(number);
      await sleep(IO_MS);
      ended(number);
    },
  };
  const worker = new Worker("bench", (job) => jobs[job.name](job.data.number), {
    connection,
    concurrency: Number(process.env.PEERS_SLOTS),
    removeOnComplete: { count: 0 },
  });
  worker.on("error", (error) => console.error(error));
  worker.on("failed", (job, error) => console.error(error));
}

async function fill(queue, kind, warmUp, single, bulk) {
  for (let number = 0; number < warmUp; number++) await queue.add(kind, { number: -1 });
  let start = now();
  const busy = process.cpuUsage();
  for (let number = 0; number < single; number++) await queue.add(kind, { number });
  const used = process.cpuUsage(busy);
  const took = { single_s: now() - start, single_cpu_s: (used.user + used.system) / 1e6 };
  if (bulk) {
    start = now();
    for (let first = single; first < single + bulk; first += CHUNK) {
      const jobs = [];
      for (let number = first; number < Math.min(first + CHUNK, single + bulk); number++)
        jobs.push({ name: kind, data: { number } });
      await queue.addBulk(jobs);
    }
    took.bulk_s = now() - start;
  }
  return took;
}

async function paced(queue, first, plan) {
  const nobody = new Int32Array(new SharedArrayBuffer(4)); // to wait for: a timer of Node's is up to 1 ms late
  const due = JSON.parse(fs.readFileSync(plan));
  const called = [];
  const start = now();
  for (let number = 0; number < due.length; number++) {
    const wait = start + due[number] - now();
    if (wait > 0) Atomics.wait(nobody, 0, 0, 1000 * wait);
    called.push(now());
    await queue.add("no_op", { number: first + number });
  }
  return { start, called };
}

async function produce(how, given) {
  const queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  const numbers = (values) => values.map(Number);
  const told =
    how === "fill" ? await fill(queue, given[0], ...numbers(given.slice(1))) : await paced(queue, Number(given[0]), given[1]);
  console.log(JSON.stringify(told));
  await queue.close();
}

const [what, ...given] = process.argv.slice(2);
if (what === "worker") work();
else produce(what, given);
