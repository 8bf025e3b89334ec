package outbound

import "testing"

// BenchmarkDocumentAtHand is what every assertion that is checked pays for its keys.
func BenchmarkDocumentAtHand(b *testing.B) {
	f := newFar()
	f.serve(wellKnown("https://a.example"), `{"issuer":"https://a.example","jwks_uri":"https://a.example/keys"}`, "3600")
	f.serve("https://a.example/keys", "keys", "3600")
	k, err := NewKeySource(KeySourceOptions[string]{Client: f, Parse: asText})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, err := k.Get(b.Context(), Source{Issuer: "https://a.example"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
