package clientconfig

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"barnabas/config"
)

// moreThanJava are stores that are taken here and not by Kafka 4.3.1 on Java 17, with the reason.
var moreThanJava = map[string]string{
	"keystore-encrypted.pem":   "Java 17 knows no PBES2 by its name in a PEM file",
	"keystore-traditional.pem": "PKCS1",
	"keystore-dek.pem":         "OpenSSL's old encryption",
	"keystore.pem":             "its key is not encrypted, and a password for it is not used",
}

// lessThanJava are stores that are refused here and not by Kafka.
var lessThanJava = map[string]string{
	"keystore-mismatch.pem": "the key is not that of the certificate, which Java finds out in the handshake",
}

// TestStoresAgreeWithKafka replays what Kafka's DefaultSslEngineFactory finds in each store (testdata/Stores.java).
func TestStoresAgreeWithKafka(t *testing.T) {
	t.Parallel()
	f, err := os.Open(store("stores.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	taken, lines := 0, bufio.NewScanner(f)
	for lines.Scan() {
		var want struct {
			File, Type, Use string
			Pass, KeyPass   *string
			Serials         []string
			Refused         bool
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		written := map[string]string{"security.protocol": "SSL", "ssl." + want.Use + ".location": store(want.File), "ssl." + want.Use + ".type": want.Type}
		if want.Pass != nil {
			written["ssl."+want.Use+".password"] = *want.Pass
		}
		if want.KeyPass != nil {
			written["ssl.key.password"] = *want.KeyPass
		}
		got, refused := serials(t, want.Use, written)
		switch {
		case want.Refused && !refused && moreThanJava[want.File] != "":
		case !want.Refused && refused && lessThanJava[want.File] != "":
		case want.Refused != refused && len(want.Serials) > 0, !want.Refused && !refused && !cmp.Equal(got, want.Serials), want.Refused && !refused:
			t.Errorf("%s: %v here (refused: %v)", lines.Bytes(), got, refused)
		case !refused:
			taken++
		}
	}
	if err := lines.Err(); err != nil || taken < 50 {
		t.Errorf("%d stores taken, error %v: the vectors are cut", taken, err)
	}
}

// serials are the serial numbers of a store's own or trusted certificates.
func serials(t *testing.T, use string, written map[string]string) (found []string, refused bool) {
	t.Helper()
	r := newReader(config.Literal(written), Admin)
	s := r.tls()
	if len(r.problems) > 0 {
		return nil, true
	}
	if use == "keystore" {
		for _, c := range s.base.Certificates {
			found = append(found, c.Leaf.SerialNumber.Text(16))
		}
	} else {
		data, err := os.ReadFile(written["ssl.truststore.location"])
		if err != nil {
			t.Fatal(err)
		}
		pass, has := r.password("ssl.truststore.password")
		certs, err := openTruststore(data, storeType(strings.ToUpper(written["ssl.truststore.type"])), pass, has)
		if err != nil {
			return nil, true
		}
		for _, c := range certs {
			found = append(found, c.SerialNumber.Text(16))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), false
}
