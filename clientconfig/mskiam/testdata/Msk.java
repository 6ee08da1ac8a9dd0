// Msk writes msk.jsonl: what Amazon's own library for Java signs, with the keys from Amazon's documentation.
//
//	mvn dependency:copy -Dartifact=software.amazon.msk:aws-msk-iam-auth:2.3.5:jar:all -DoutputDirectory=.
//	AWS_REGION=eu-west-1 java -cp aws-msk-iam-auth-2.3.5-all.jar:kafka-clients.jar:slf4j-api.jar Msk.java > msk.jsonl
import java.util.*;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.security.oauthbearer.OAuthBearerTokenCallback;
import software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler;
import software.amazon.msk.auth.iam.internals.*;
import software.amazon.awssdk.auth.credentials.*;

public class Msk {
    public static void main(String[] a) throws Exception {
        String id = "AKIAIOSFODNN7EXAMPLE", secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        String[] hosts = {
            "b-1.orders.abc123.c2.kafka.us-east-1.amazonaws.com", "boot-abc.c1.kafka-serverless.ap-southeast-2.amazonaws.com",
            "b-2.my-cluster-1.x.c3.kafka.cn-north-1.amazonaws.com.cn", "b-3.x.c4.kafka.us-gov-west-1.amazonaws.com", "broker.example",
        };
        for (String host : hosts)
            for (String token : new String[] {null, "FwoGZXIvYXdzE+/==\"x y&z=%"}) {
                AwsCredentials c = token == null ? AwsBasicCredentials.create(id, secret) : AwsSessionCredentials.create(id, secret, token);
                byte[] out = new AWS4SignedPayloadGenerator().signedPayload(AuthenticationRequestParams.create(host, c, "agent/1 (x; y)"));
                System.out.println("{\"session\":" + quote(token) + ",\"payload\":" + new String(out, StandardCharsets.UTF_8) + "}");
            }
    }

    static String quote(String s) { return s == null ? "\"\"" : "\"" + s.replace("\\", "\\\\").replace("\"", "\\\"") + "\""; }
}
