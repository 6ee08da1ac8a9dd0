import java.time.Duration;
import java.util.HashMap;
import java.util.Map;

import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** Says what Kafka's own classes make of a cluster that something is mirrored to: bootstrap servers, alias of the source, group. */
public class Failover {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", args[0]);
        try (MirrorClient client = new MirrorClient(config)) {
            for (String topic : client.remoteTopics(args[1])) {
                System.out.println("remote topic " + topic);
            }
            for (String topic : client.checkpointTopics()) {
                System.out.println("checkpoint topic " + topic);
            }
            for (String topic : client.heartbeatTopics()) {
                System.out.println("heartbeat topic " + topic);
            }
            for (String alias : client.upstreamClusters()) {
                System.out.println("upstream cluster " + alias);
            }
            System.out.println("hops " + client.replicationHops(args[1]));
            say("offset", client.remoteConsumerOffsets(args[2], args[1], Duration.ofSeconds(20)));
        }
        say("translated", RemoteClusterUtils.translateOffsets(config, args[1], args[2], Duration.ofSeconds(20)));
    }

    private static void say(String what, Map<TopicPartition, OffsetAndMetadata> offsets) {
        offsets.forEach((partition, at) -> System.out.println(what + " " + partition + " " + at.offset()));
    }
}
