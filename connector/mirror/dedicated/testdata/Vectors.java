package org.apache.kafka.connect.mirror;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.config.ConfigData;
import org.apache.kafka.common.config.provider.ConfigProvider;
import org.apache.kafka.common.utils.Utils;

/**
 * Writes what MirrorMakerConfig makes of each cases/NAME.properties to cases/NAME.json, and the names of settings that it
 * knows to ../names.json. In this folder, with the jars of Kafka in LIBS (the class has to be in MirrorMaker's package, since
 * much of it is not public):
 *
 *   javac -cp 'LIBS/*' -d /tmp/vectors Vectors.java && java -cp '/tmp/vectors:LIBS/*' org.apache.kafka.connect.mirror.Vectors
 */
public class Vectors {
    static final ObjectMapper JSON = new ObjectMapper().enable(SerializationFeature.INDENT_OUTPUT).enable(SerializationFeature.ORDER_MAP_ENTRIES_BY_KEYS);

    public static void main(String[] args) throws Exception {
        Map<String, Object> names = new TreeMap<>();
        names.put("connector", new TreeSet<>(new MirrorMakerConfig(Map.of("clusters", "A,B")).allConfigNames()));
        names.put("client", new TreeSet<>(MirrorClientConfig.CLIENT_CONFIG_DEF.names()));
        JSON.writeValue(Path.of("../names.json").toFile(), names);
        try (var files = Files.newDirectoryStream(Path.of("cases"), "*.properties")) {
            for (Path file : files) {
                Path out = Path.of(file.toString().replace(".properties", ".json"));
                JSON.writeValue(out.toFile(), answer(Utils.propsToStringMap(Utils.loadProps(file.toString()))));
            }
        }
    }

    static Map<String, Object> answer(Map<String, String> props) {
        Map<String, Object> out = new TreeMap<>();
        try {
            MirrorMakerConfig config = new MirrorMakerConfig(props);
            out.put("clusters", new TreeSet<>(config.clusters()));
            out.put("internal.rest", config.enableInternalRest());
            Map<String, Object> links = new TreeMap<>();
            for (SourceAndTarget pair : config.clusterPairs()) {
                Map<String, Object> link = new TreeMap<>();
                link.put("worker", new TreeMap<>(config.workerConfig(pair)));
                for (Class<?> c : MirrorMaker.CONNECTOR_CLASSES) {
                    link.put(c.getSimpleName(), new TreeMap<>(config.connectorBaseConfig(pair, c)));
                }
                links.put(pair.toString(), link);
            }
            out.put("links", links);
        } catch (Exception e) {
            out.clear();
            out.put("error", e.getMessage());
        }
        return out;
    }

    /** Gives every reference back as it was written, so that answers do not depend on files. */
    public static class Echo implements ConfigProvider {
        @Override
        public ConfigData get(String path) {
            return new ConfigData(Map.of());
        }

        @Override
        public ConfigData get(String path, Set<String> keys) {
            Map<String, String> data = new TreeMap<>();
            for (String key : keys) {
                data.put(key, "${echo:" + path + ":" + key + "}");
            }
            return new ConfigData(data);
        }

        @Override
        public void configure(Map<String, ?> configs) { }

        @Override
        public void close() { }
    }
}
