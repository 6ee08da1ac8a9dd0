// Keys prints the keys of Kafka's clients, from which keys.go is made:
//
//	java -cp kafka-clients.jar:slf4j-api.jar Keys.java
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.admin.AdminClientConfig;
import java.util.*;
public class Keys {
  public static void main(String[] a) {
    TreeMap<String,String> kinds = new TreeMap<>(); TreeMap<String,String> types = new TreeMap<>();
    add("P", ProducerConfig.configDef(), kinds, types);
    add("C", ConsumerConfig.configDef(), kinds, types);
    add("A", AdminClientConfig.configDef(), kinds, types);
    for (String k : kinds.keySet()) System.out.println(k + "\t" + kinds.get(k) + "\t" + types.get(k));
  }
  static void add(String kind, ConfigDef d, Map<String,String> kinds, Map<String,String> types) {
    for (ConfigDef.ConfigKey k : d.configKeys().values()) { kinds.merge(k.name, kind, String::concat); types.put(k.name, k.type + "\t" + k.defaultValue + "\t" + k.validator); }
  }
}
