"""One cycle of a connector's life with a client from PyPI.

    cycle.py CLIENT URL CONFIG-FILE

CONFIG-FILE is {"name": ..., "config": {...}}. Prints, as JSON, what the client
returned at each step, and how often it was answered 409, which the cycle waits out.
"""

import json
import sys
import time

client, url, path = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    definition = json.load(file)
name, config = definition["name"], definition["config"]
changed = dict(config, **{"batch.size": "7"})
plugin = config["connector.class"]
steps, conflicts = [], 0


def is_conflict(value):
    if "a rebalance is expected" in str(value):  # Connect answers some of them with 500
        return True
    if isinstance(value, Exception):
        answer = getattr(value, "response", None)
        return getattr(value, "code", None) == 409 or getattr(answer, "status_code", None) == 409 or '"error_code":409' in str(value)
    return value == "Kafka cluster rebalance is in process."


def call(what, *args):
    """what(*args), again as long as it is refused because of a rebalance."""
    global conflicts
    for _ in range(200):
        try:
            value = what(*args)
        except Exception as e:
            if not is_conflict(e):
                raise
            value = e
        if not is_conflict(value):
            return value
        conflicts += 1
        time.sleep(0.2)
    raise SystemExit("still 409 after 40 seconds")


def step(label, what, *args):
    value = call(what, *args)
    steps.append([label, value])
    return value


def until(label, what, fulfilled):
    """The first answer that fulfills a condition."""
    value, limit = None, time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            value = call(what)
        except Exception as e:  # a status comes a moment after its connector
            if "404" not in str(e):
                raise
            value = str(e)
            time.sleep(0.2)
            continue
        if fulfilled(value):
            steps.append([label, value])
            return value
        time.sleep(0.2)
    raise SystemExit(f"{label}: not within a minute: {value}")


def paused(s):
    """Whether the connector is paused. Connect may go on calling its tasks RUNNING, so they are not looked at."""
    if not isinstance(s, dict) or s.get("connector", {}).get("state") != "PAUSED":
        return False
    del s["tasks"]
    return True


def states(connector, tasks=None):
    """Whether a status has these states; tasks=None asks for no task at all."""

    def fulfilled(s):
        if not isinstance(s, dict) or "connector" not in s:
            return False
        return s["connector"]["state"] == connector and [t["state"] for t in s["tasks"]] == ([tasks] if tasks else [])

    return fulfilled


def kafka_connect_py():
    from kafka_connect import KafkaConnect

    c = KafkaConnect(url)
    status = lambda: c.get_connector_status(name)
    running = states("RUNNING", "RUNNING")
    step("cluster", c.get_cluster_info)
    step("validate", c.validate_connector_config, plugin, dict(config, name=name))
    step("create", c.create_connector, definition)
    until("running", status, running)
    step("list", c.list_connectors, None, name, None)
    step("list running", c.list_connectors, None, name, "running")
    step("expand status", c.list_connectors, "status", name)
    step("expand info", c.list_connectors, "info", name)
    step("get", c.get_connector, name)
    step("update", c.update_connector, name, changed)
    until("running changed", status, running)
    step("config", c.get_connector_config, name)
    step("pause", c.pause_connector, name)
    until("paused", status, paused)
    step("resume", c.resume_connector, name)
    until("resumed", status, running)
    step("restart", c.restart_connector, name)
    until("restarted", status, running)
    step("restart tasks", c.restart_connector, name, True)
    until("restarted tasks", status, running)
    step("tasks", c.list_connector_tasks, name)
    step("task status", c.get_connector_task_status, name, 0)
    step("restart task", c.restart_connector_task, name, 0)
    until("restarted task", status, running)
    until("topics", lambda: c.list_connector_topics(name), lambda t: t[name]["topics"])
    step("reset topics", c.reset_connector_topics, name)
    step("plugins", c.list_connector_plugins)
    step("delete", c.delete_connector, name)
    until("gone", lambda: c.list_connectors(None, name), lambda names: not names)


def kafka_connect_api():
    from kafka_connect_api.kafka_connect_api import Api, Cluster, Connector

    cluster = Cluster(Api(url=url))
    c = Connector(cluster, name)
    status = lambda: c.status
    running = states("RUNNING", "RUNNING")
    step("cluster", cluster.get)
    step("exists not", lambda: name in cluster.connectors)
    step("create", setattr, c, "config", dict(config, name=name))
    until("created", lambda: name in cluster.connectors, bool)
    until("running", status, running)
    step("exists", c.exists)
    step("class", lambda: c.connector_class)
    step("update", setattr, c, "config", dict(changed, name=name))
    until("changed", lambda: c.config, lambda got: got.get("batch.size") == "7")
    until("running changed", status, running)
    step("pause", c.pause)
    until("paused", status, paused)
    step("resume", c.resume)
    until("resumed", status, running)
    step("restart", lambda: c.restart())
    until("restarted", status, running)
    step("tasks", lambda: [[t.id, t.config, t.state] for t in c.tasks])
    step("restart all tasks", c.restart_all_tasks)
    until("restarted tasks", status, running)
    step("cycle", c.cycle_connector)
    until("cycled", status, running)
    step("logger", lambda: isinstance(cluster.set_logger_log_level("root", "INFO"), list))
    step("delete", c.delete)
    until("gone", lambda: name in cluster.connectors, lambda there: not there)


def kafkaconnect():
    from kafkaconnect.connect import Connect

    c = Connect(url)

    def parsed(what, *args):
        def ask():
            text = what(*args)
            try:
                return json.loads(text)
            except (TypeError, ValueError):
                return text

        return ask

    status = parsed(c.status, name)
    running = states("RUNNING", "RUNNING")
    step("plugins", parsed(c.plugins))
    step("validate", parsed(c.validate, plugin, json.dumps(dict(config, name=name))))
    step("refused", parsed(c.validate_and_create, name, json.dumps(dict(config, name=name, topic=""))))
    step("create", parsed(c.validate_and_create, name, json.dumps(dict(config, name=name))))
    until("running", status, running)
    step("list", lambda: name in parsed(c.list)())
    step("info", parsed(c.info, name))
    step("update", parsed(c.create_or_update, name, json.dumps(changed)))
    until("running changed", status, running)
    step("config", parsed(c.config, name))
    until("tasks", parsed(c.tasks, name), lambda t: t and t[0]["config"].get("batch.size") == "7")
    step("pause", parsed(c.pause, name))
    until("paused", status, paused)
    step("resume", parsed(c.resume, name))
    until("resumed", status, running)
    step("restart", parsed(c.restart, name))
    until("restarted", status, running)
    until("topics", parsed(c.topics, name), lambda t: t[name]["topics"])
    step("delete", parsed(c.remove, name))
    until("gone", parsed(c.info, name), lambda text: str(text).endswith("not found."))


{f.__name__: f for f in (kafka_connect_py, kafka_connect_api, kafkaconnect)}[client]()
json.dump({"conflicts": conflicts, "steps": steps}, sys.stdout, default=str)
