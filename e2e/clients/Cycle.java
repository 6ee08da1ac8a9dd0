import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.function.Predicate;
import org.sourcelab.kafka.connect.apiclient.Configuration;
import org.sourcelab.kafka.connect.apiclient.KafkaConnectClient;
import org.sourcelab.kafka.connect.apiclient.request.dto.ConnectorPluginConfigDefinition;
import org.sourcelab.kafka.connect.apiclient.request.dto.ConnectorStatus;
import org.sourcelab.kafka.connect.apiclient.request.dto.NewConnectorDefinition;
import org.sourcelab.kafka.connect.apiclient.request.post.PostConnectorRestart;
import org.sourcelab.kafka.connect.apiclient.rest.exceptions.ConcurrentConfigModificationException;
import org.sourcelab.kafka.connect.apiclient.rest.exceptions.ResourceNotFoundException;

/**
 * One cycle of a connector's life with SourceLab's kafka-connect-client from Maven Central.
 *
 * <p>java Cycle.java URL CONFIG-FILE: prints what cycle.py prints.
 */
class Cycle {
  static final List<Object> steps = new ArrayList<>();
  static int conflicts;

  static <T> T call(Callable<T> what) throws Exception {
    for (int i = 0; i < 200; i++) {
      try {
        return what.call();
      } catch (ConcurrentConfigModificationException e) {
        conflicts++;
        Thread.sleep(200);
      } catch (Exception e) {
        if (!String.valueOf(e.getMessage()).contains("a rebalance is expected")) throw e; // Connect answers some of them with 500
        conflicts++;
        Thread.sleep(200);
      }
    }
    throw new IllegalStateException("still 409 after 40 seconds");
  }

  static <T> T step(String label, Callable<T> what) throws Exception {
    T value = call(what);
    steps.add(List.of(label, value == null ? "" : value));
    return value;
  }

  static <T> void until(String label, Callable<T> what, Predicate<T> fulfilled) throws Exception {
    T value = null;
    for (int i = 0; i < 300; i++) {
      value = call(what);
      if (fulfilled.test(value)) {
        steps.add(List.of(label, value));
        return;
      }
      Thread.sleep(200);
    }
    throw new IllegalStateException(label + ": not within a minute: " + value);
  }

  static Predicate<ConnectorStatus> are(String connector, String... tasks) {
    return s -> s.getConnector().get("state").equals(connector)
        && s.getTasks().stream().map(ConnectorStatus.TaskStatus::getState).toList().equals(List.of(tasks));
  }

  @SuppressWarnings("unchecked")
  public static void main(String[] args) throws Exception {
    ObjectMapper json = new ObjectMapper().disable(SerializationFeature.FAIL_ON_EMPTY_BEANS);
    Map<String, Object> definition = json.readValue(new File(args[1]), Map.class);
    String name = (String) definition.get("name");
    Map<String, String> config = (Map<String, String>) definition.get("config");
    Map<String, String> changed = new HashMap<>(config);
    changed.put("batch.size", "7");
    Map<String, String> named = new HashMap<>(config);
    named.put("name", name);
    KafkaConnectClient c = new KafkaConnectClient(new Configuration(args[0]));
    Callable<ConnectorStatus> status = () -> {
      try {
        return c.getConnectorStatus(name);
      } catch (ResourceNotFoundException e) { // not started yet
        return new ConnectorStatus(name, "", Map.of("state", ""), List.of());
      }
    };
    Predicate<ConnectorStatus> running = are("RUNNING", "RUNNING");
    step("cluster", c::getConnectServerVersion);
    step("plugins", c::getConnectorPlugins);
    step("validate", () -> c.validateConnectorPluginConfig(new ConnectorPluginConfigDefinition(config.get("connector.class"), named)));
    step("create", () -> c.addConnector(new NewConnectorDefinition(name, config)));
    until("running", status, running);
    step("list", () -> c.getConnectors().contains(name));
    step("expand", () -> c.getConnectorsWithAllExpandedMetadata().getStatusForConnector(name));
    step("expand info", () -> c.getConnectorsWithExpandedInfo().getDefinitionForConnector(name));
    step("get", () -> c.getConnector(name));
    step("update", () -> c.updateConnectorConfig(name, changed));
    until("running changed", status, running);
    step("config", () -> c.getConnectorConfig(name));
    step("pause", () -> c.pauseConnector(name));
    // Connect may go on calling the tasks of a paused connector RUNNING: they are not looked at.
    until("paused", () -> status.call().getConnector().get("state"), "PAUSED"::equals);
    step("resume", () -> c.resumeConnector(name));
    until("resumed", status, running);
    step("restart", () -> c.restartConnector(name));
    until("restarted", status, running);
    step("restart with tasks", () -> c.restartConnector(new PostConnectorRestart(name).withIncludeTasks(true)));
    until("restarted with tasks", status, running);
    step("tasks", () -> c.getConnectorTasks(name));
    step("task status", () -> c.getConnectorTaskStatus(name, 0));
    step("restart task", () -> c.restartConnectorTask(name, 0));
    until("restarted task", status, running);
    until("topics", () -> c.getConnectorTopics(name), t -> !t.getTopics().isEmpty());
    step("reset topics", () -> c.resetConnectorTopics(name));
    step("delete", () -> c.deleteConnector(name));
    until("gone", () -> {
      try {
        return c.getConnector(name).getName();
      } catch (ResourceNotFoundException e) {
        return "not found";
      }
    }, "not found"::equals);
    System.out.println(json.writeValueAsString(Map.of("conflicts", conflicts, "steps", steps)));
  }
}
