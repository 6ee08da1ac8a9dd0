package auth

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"testing"
)

// TestNamesAreWrittenAsByJava has what X500Principal.getName of Java 21 writes.
func TestNamesAreWrittenAsByJava(t *testing.T) {
	t.Parallel()
	for encoded, want := range map[string]string{
		"305f310b3009060355040613024445310f300d060355040813064265726c696e310f300d060355040713064265726c696e3111300f060355040a130841636d6520496e63310d300b060355040b130444617461310c300a06035504031303416e6e": "CN=Ann,OU=Data,O=Acme Inc,L=Berlin,ST=Berlin,C=DE",
		"301f311d301b06035504031314776f726b65722d312e6578616d706c652e636f6d":                                                                         "CN=worker-1.example.com",
		"304331133011060a0992268993f22c6401191603636f6d31173015060a0992268993f22c64011916076578616d706c6531133011060a0992268993f22c6401011303616e6e": "UID=ann,DC=example,DC=com",
		"3022310a3008060355040a130178311430120603550403130b536d6974682c204a6f686e":                                                                   `CN=Smith\, John,O=x`,
		"3026310a3008060355040a1301793118301606035504030c0f612b623d633c643e653b6622675c68":                                                           `CN=a\+b\=c\<d\>e\;f\"g\\h,O=y`,
		"301e310f300d060355040a1306206c65616420310b300906035504030c022378":                                                                           `CN=\#x,O=\ lead\ `,
		"3022310a3008060355040a1301633114300806035504031301613008060355040b130162":                                                                   "CN=a+OU=b,O=c",
		"3022310a300806035504031301783114301206092a864886f70d01090116056140622e63":                                                                   "1.2.840.113549.1.9.1=#16056140622e63,CN=x",
		"3019310a30080603550403130178310b3009060355040513023132":                                                                                     "2.5.4.5=#13023132,CN=x",
		"301d310a30080603550403130178310f300d060355040913064d61696e2031":                                                                             "STREET=Main 1,CN=x",
		"3020310f300d060355040a0c06e697a5e69cac310d300b06035504030c045a6fc3ab":                                                                       "CN=Zoë,O=日本",
		"301d310c300a060355040a0c03632364310d300b0603550403130461202062":                                                                             `CN=a  b,O=c\#d`,
		"3017310a3008060355040a1301783109300706035504031300":                                                                                         "CN=,O=x",
		"301c310c300a060355040a1303613a62310c300a06035504031303782f79":                                                                               "CN=x/y,O=a:b",
	} {
		subject, err := hex.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := distinguishedName(subject); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
}

// TestRulesAreKafkas has what SslPrincipalMapper of Kafka 4.3.1 makes of one name. Where "-" is wanted no rule matches; where "!", it is refused
// there when it is read or when it is used, and here when it is read.
func TestRulesAreKafkas(t *testing.T) {
	t.Parallel()
	const name = "CN=Ann,OU=ServiceUsers,O=Acme,L=X,C=DE"
	for rules, want := range map[string]string{
		"DEFAULT":                               name,
		"":                                      name, // Kafka has no rules then, and takes the name without asking for one
		"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/": "Ann",
		"RULE:^CN=(.*?),.*$/$1/L":               "ann",
		"RULE:^CN=(.*?),.*$/$1/U":               "ANN",
		"RULE:^CN=(.*?),OU=(.*?),.*$/$1@$2/L,DEFAULT":             "ann@serviceusers",
		"RULE:^CN=(.*?),OU=Admins.*$/$1/,DEFAULT":                 name,
		"RULE:^CN=(.*?),OU=Admins.*$/$1/":                         "-",
		"RULE:Ann/x/":                                             "-",
		"RULE:.*CN=(\\w+).*/user-$1/L, RULE:.*/y/":                "user-ann",
		"RULE:^CN=(.*),OU=(.*),O=(.*),L=(.*),C=(.*)$/$1,$2\\/$3/": "Ann,ServiceUsers/Acme",
		"RULE:^.*$/a\\$1/":                                        "a$1",
		"RULE:^(CN=(.*?),.*)$/$2$9/":                              "Ann$9",
		"RULE:^CN=((A)nn).*/$21/":                                 "A1",
		"RULE:^CN=(.*?),OU=(?<u>.*?),.*$/$1/":                     "Ann",
		"DEFAULT,RULE:a/b/":                                       name,
		"RULE:^cn=(.*?),.*$/$1/":                                  "-",
		"RULE:^.*$//":                                             "-", // nobody has no name
		"RULE:CN=(.*?)/$1/":                                       "Ann,OU=ServiceUsers,O=Acme,L=X,C=DE",
		"RULE:.*/a$b/":                                            "!", "RULE:a/b": "!", "RULE:": "!", "foo": "!", "RULE:a/b/X": "!", "RULE:[/b/": "!", "default": "!", "RULE:^CN=(.*?),.*$/$1/L/": "!", "DEFAULT,": "!",
	} {
		c, err := NewCertificates(rules)
		if (err != nil) != (want == "!") {
			t.Errorf("%s: %v", rules, err)
		}
		if err != nil {
			continue
		}
		got := "-"
		for _, r := range c.rules {
			if user, ok := r.apply(name); ok && user != "" {
				got = user
				break
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", rules, got, want)
		}
	}
}

func TestACertificateWithoutANameIsNobody(t *testing.T) {
	t.Parallel()
	c, err := NewCertificates("DEFAULT")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range [][]byte{{0x30, 0}, nil, {1, 2, 3}} {
		if user, err := c.User(&x509.Certificate{RawSubject: subject}); !errors.Is(err, ErrWrong) || user != "" {
			t.Errorf("%x: %q %v", subject, user, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add("RULE:^CN=(.*?),.*$/$1/L,DEFAULT", "CN=a,O=b")
	f.Add("RULE:a\\/b/\\$$1/U", "a/b")
	f.Fuzz(func(_ *testing.T, rules, name string) {
		c, err := NewCertificates(rules)
		if err != nil {
			return
		}
		for _, r := range c.rules {
			r.apply(name)
		}
		_, _ = distinguishedName([]byte(name))
	})
}
