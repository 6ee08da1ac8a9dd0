// Stores writes stores.jsonl: what Kafka's own DefaultSslEngineFactory (kafka-clients 4.3.1, Java 17) finds in each
// store of this folder, under each type and with right and wrong passwords. Run it in this folder:
//
//	java -cp kafka-clients.jar:slf4j-api.jar Stores.java > stores.jsonl
import java.io.File;
import java.security.KeyStore;
import java.security.cert.X509Certificate;
import java.util.*;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.AbstractConfig;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.common.security.ssl.DefaultSslEngineFactory;

public class Stores {
    public static void main(String[] a) {
        List<String> files = new ArrayList<>(List.of(new File(".").list((d, n) -> n.matches(".*\\.(jks|p12|jceks|pem|key)"))));
        Collections.sort(files);
        for (String file : files)
            for (String type : new String[] {"JKS", "PKCS12", "PEM"})
                for (String use : new String[] {"keystore", "truststore"})
                    for (String pass : new String[] {null, "store-pass", "trust-pass", "wrong"})
                        if (pass != null ? file.matches(".*(pem|key)") : type != "PEM" && use.equals("keystore")) continue; // all refused alike
                        else for (String keyPass : use.equals("keystore") ? new String[] {null, "key-pass", "store-pass", "wrong"} : new String[] {null})
                            show(file, type, use, pass, keyPass);
    }

    static void show(String file, String type, String use, String pass, String keyPass) {
        ConfigDef def = new ConfigDef();
        def.withClientSslSupport();
        Map<String, Object> props = new HashMap<>();
        props.put("ssl." + use + ".location", file);
        props.put("ssl." + use + ".type", type);
        if (pass != null) props.put("ssl." + use + ".password", pass);
        if (keyPass != null) props.put("ssl.key.password", keyPass);
        String line = "{\"file\":\"" + file + "\",\"type\":\"" + type + "\",\"use\":\"" + use + "\",\"pass\":" + quote(pass) + ",\"keyPass\":" + quote(keyPass);
        try (DefaultSslEngineFactory factory = new DefaultSslEngineFactory()) {
            factory.configure(new HashMap<>(new AbstractConfig(def, props, false).values()));
            KeyStore store = use.equals("keystore") ? factory.keystore() : factory.truststore();
            TreeSet<String> names = new TreeSet<>();
            for (String alias : Collections.list(store.aliases()))
                if (store.isKeyEntry(alias) ? store.getCertificateChain(alias) != null : use.equals("truststore")) {
                    X509Certificate c = (X509Certificate) (store.isKeyEntry(alias) ? store.getCertificateChain(alias)[0] : store.getCertificate(alias));
                    names.add(c.getSerialNumber().toString(16));
                }
            line += ",\"serials\":[";
            String comma = "";
            for (String n : names) { line += comma + quote(n); comma = ","; }
            line += "]";
        } catch (Throwable e) {
            line += ",\"refused\":true";
        }
        System.out.println(line + "}");
    }

    static String quote(String s) { return s == null ? "null" : "\"" + s.replace("\\", "\\\\").replace("\"", "\\\"") + "\""; }
}
