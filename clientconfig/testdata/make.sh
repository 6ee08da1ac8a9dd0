#!/bin/sh
# Makes the keystores of the tests with keytool (Java 17) and OpenSSL 3, i.e. as
# people make them. All passwords are in the tests. Run it in this folder; what
# it writes is committed, so that tests need neither tool.
set -eu
cd "$(dirname "$0")"
rm -f ./*.pem ./*.jks ./*.p12 ./*.jceks ./*.key ./*.csr ./*.srl ./*.ext

days=36500
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
sign() { # name subject extensions
	openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
	printf '%b' "$3" > "$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days $days -extfile "$1.ext" -out "$1.pem"
}

# Two authorities: ca signs everything, other nothing.
key ca.key
openssl req -x509 -new -key ca.key -subj "/O=Barnabas/CN=Test CA" -days $days -out ca.pem
key other.key
openssl req -x509 -new -key other.key -subj "/O=Barnabas/CN=Other CA" -days $days -out other-ca.pem

# Brokers: a proper one, one with only a common name (keytool without -ext), one for elsewhere.
key server.key
sign server "/CN=broker" "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"
key server-cn.key
sign server-cn "/CN=localhost" "basicConstraints=CA:FALSE\n"
key server-elsewhere.key
sign server-elsewhere "/CN=localhost" "subjectAltName=DNS:elsewhere.example\n"

# Clients: EC and RSA.
key client.key
sign client "/C=SE/O=Shop, Inc/OU=Orders/CN=orders-ro" "extendedKeyUsage=clientAuth\n"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key
sign rsa "/O=Shop/CN=orders-rsa" "extendedKeyUsage=clientAuth\n"

# PEM keystores.
cat client.key client.pem ca.pem > keystore.pem
openssl pkcs8 -topk8 -v2 aes-256-cbc -in client.key -passout pass:key-pass -out encrypted.key
cat encrypted.key client.pem ca.pem > keystore-encrypted.pem
openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -in client.key -passout pass:key-pass -out encrypted-pbes1.key
cat encrypted-pbes1.key client.pem > keystore-pbes1.pem
openssl rsa -in rsa.key -traditional -out rsa-traditional.key
cat rsa-traditional.key rsa.pem > keystore-traditional.pem
cat ca.key client.pem > keystore-mismatch.pem
openssl rsa -in rsa.key -aes128 -traditional -passout pass:key-pass -out rsa-dek.key
cat rsa-dek.key rsa.pem > keystore-dek.pem

# PKCS12 keystores: OpenSSL's own, its old ciphers, keytool's.
openssl pkcs12 -export -inkey client.key -in client.pem -certfile ca.pem -name orders -passout pass:store-pass -out keystore-openssl.p12
openssl pkcs12 -export -legacy -inkey rsa.key -in rsa.pem -certfile ca.pem -name orders -passout pass:store-pass -out keystore-legacy.p12
from() { keytool -importkeystore -noprompt -srckeystore keystore-openssl.p12 -srcstoretype PKCS12 -srcstorepass store-pass "$@"; }
from -destkeystore keystore.p12 -deststoretype PKCS12 -deststorepass store-pass
from -destkeystore keystore.jks -deststoretype JKS -deststorepass store-pass
from -destkeystore keystore-keypass.jks -deststoretype JKS -deststorepass store-pass -srcalias orders -destkeypass key-pass
from -destkeystore keystore.jceks -deststoretype JCEKS -deststorepass store-pass

# A keystore that trusts, too, and one with two keys.
cp keystore.jks combined.jks
keytool -importcert -noprompt -keystore combined.jks -storepass store-pass -alias ca -file ca.pem
cp keystore.p12 combined.p12
keytool -importcert -noprompt -keystore combined.p12 -storepass store-pass -alias ca -file ca.pem
cp keystore.jks two.jks
keytool -importkeystore -noprompt -srckeystore keystore-legacy.p12 -srcstoretype PKCS12 -srcstorepass store-pass \
	-srcalias orders -destalias second -destkeystore two.jks -deststorepass store-pass

# Truststores; the last one is OpenSSL's, without the mark that Java looks for.
keytool -importcert -noprompt -storetype JKS -keystore truststore.jks -storepass trust-pass -alias ca -file ca.pem
keytool -importcert -noprompt -storetype JKS -keystore truststore-other.jks -storepass trust-pass -alias ca -file other-ca.pem
keytool -importcert -noprompt -storetype PKCS12 -keystore truststore.p12 -storepass trust-pass -alias ca -file ca.pem
keytool -importcert -noprompt -storetype PKCS12 -keystore truststore.p12 -storepass trust-pass -alias other -file other-ca.pem
openssl pkcs12 -export -nokeys -in ca.pem -passout pass:trust-pass -out truststore-unmarked.p12
cat other-ca.pem ca.pem > truststore.pem

# A password beyond ASCII, which keytool takes only from a terminal (and Java's PKCS12 not at all).
cat > Recode.java <<'J'
import java.io.*;
import java.security.KeyStore;
public class Recode {
    public static void main(String[] args) throws Exception {
        KeyStore in = KeyStore.getInstance("JKS");
        in.load(new FileInputStream("truststore.jks"), "trust-pass".toCharArray());
        try (OutputStream f = new FileOutputStream("truststore-unicode.jks")) {
            in.store(f, "p\u00e4ssw\u00f6rd\u20ac".toCharArray());
        }
    }
}
J
java Recode.java
rm -f Recode.java ./*.csr ./*.ext ./*.srl other.key rsa-traditional.key rsa-dek.key encrypted-pbes1.key
