// One cycle of a connector's life with kafka-connect-client from npm.
//
//     node cycle.js URL CONFIG-FILE
//
// Prints what cycle.py prints.
const { readFileSync } = require("node:fs");
// Without a body axios says "form-encoded", which Connect answers with 415: its users set this.
const axios = require("axios");
for (const method of ["put", "post"]) axios.defaults.headers[method]["Content-Type"] = "application/json";
const { KafkaConnectClient } = require("kafka-connect-client");

const [url, path] = process.argv.slice(2);
const { name, config } = JSON.parse(readFileSync(path, "utf8"));
const { hostname, port } = new URL(url);
const client = new KafkaConnectClient({ host: hostname, port });
const c = client.connector(name);
const steps = [];
let conflicts = 0;
const pause = () => new Promise((done) => setTimeout(done, 200));

async function call(what) {
  for (let i = 0; i < 200; i++) {
    try {
      const { status, data } = await what();
      return { status, data };
    } catch (e) {
      if (!e.response) throw e;
      // Connect answers some of them with 500.
      const rebalance = JSON.stringify(e.response.data || "").includes("a rebalance is expected");
      if (e.response.status !== 409 && !rebalance) return { status: e.response.status, data: e.response.data };
      conflicts++;
      await pause();
    }
  }
  throw new Error("still 409 after 40 seconds");
}

async function step(label, what) {
  steps.push([label, await call(what)]);
}

async function until(label, what, fulfilled) {
  let got;
  for (let i = 0; i < 300; i++) {
    got = await call(what);
    if (fulfilled(got)) {
      steps.push([label, got]);
      return;
    }
    await pause();
  }
  throw new Error(`${label}: not within a minute: ${JSON.stringify(got)}`);
}

const are = (connector, tasks) => ({ status, data }) =>
  status === 200 && data.connector.state === connector && data.tasks.map((t) => t.state).join() === tasks;

// Connect may go on calling the tasks of a paused connector RUNNING: they are not looked at.
const paused = ({ status, data }) => {
  if (status !== 200 || data.connector.state !== "PAUSED") return false;
  delete data.tasks;
  return true;
};

(async () => {
  const running = are("RUNNING", "RUNNING");
  await step("cluster", () => client.getCluster());
  await step("plugins", () => client.getConnectorPlugins());
  await step("all plugins", () => client.getConnectorPlugins({ connectorsOnly: true }));
  await step("validate", () => client.validateConnectorConfig(config["connector.class"], { ...config, name }));
  await step("create", () => client.createConnector(name, config));
  await until("running", () => c.getStatus(), running);
  await step("create again", () => c.create(config));
  await until("running again", () => c.getStatus(), running);
  await step("get", () => c.get());
  await step("update", () => c.updateConfig({ ...config, "batch.size": "7" }));
  await until("running changed", () => c.getStatus(), running);
  await step("config", () => c.getConfig());
  await step("restart", () => c.restart({ includeTasks: true })); // it sends this as a body, by mistake
  await until("restarted", () => c.getStatus(), running);
  await step("pause", () => c.pause());
  await until("paused", () => c.getStatus(), paused);
  await step("resume", () => c.resume());
  await until("resumed", () => c.getStatus(), running);
  await step("tasks", () => c.getTasks());
  await step("task status", () => c.getTaskStatus(0));
  await step("restart task", () => c.restartTask(0));
  await until("restarted task", () => c.getStatus(), running);
  await step("reset topics", () => c.resetTopics());
  await until("offsets", () => c.getOffsets(), ({ data }) => data.offsets?.length === 1);
  await step("stop", () => c.stop());
  await until("stopped", () => c.getStatus(), are("STOPPED", ""));
  const { data } = await call(() => c.getOffsets());
  await until("alter offsets", () => c.alterOffsets(data.offsets.map((o) => ({ ...o, offset: { position: 4 } }))), ({ status }) => status === 200);
  await step("altered offsets", () => c.getOffsets());
  await step("reset offsets", () => c.resetOffsets());
  await step("no offsets", () => c.getOffsets());
  await step("delete", () => c.delete());
  await until("gone", () => c.get(), ({ status }) => status === 404);
  console.log(JSON.stringify({ conflicts, steps }));
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
