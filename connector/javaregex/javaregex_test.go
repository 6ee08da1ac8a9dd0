package javaregex

import "testing"

func FuzzCompile(f *testing.F) {
	for _, s := range []string{".*", `\Qa.b\E`, "[a-z&&[^o]]++", `(?i:a)\1{2,3}?`, `\p{Lower}\x{61}`, "[]a-]", "((((", `\`, "[^", "(?<x>a)\\k<x>", "é+"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, pattern string) {
		if m, err := Compile(pattern); err == nil {
			_, _ = m.Match("orders-eu.1")
		}
	})
}
