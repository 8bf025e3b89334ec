package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"testing"
)

// The ceilings stand beside what they bound, so that one run of
//
//	go test -run '^$' -bench . -benchmem ./tokens
//
// shows both on the same machine.

func BenchmarkCeilingSign(b *testing.B) {
	w := newWorld(b)
	g := delegated(b)
	token := w.mint(b, g)
	signed := token[:len(token)-87]
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ed25519.Sign(w.signer.private, signed)
		}
	})
}

func BenchmarkCeilingVerify(b *testing.B) {
	w := newWorld(b)
	t, err := parse(w.mint(b, delegated(b)))
	if err != nil {
		b.Fatal(err)
	}
	public := w.signer.Public()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !ed25519.Verify(public, t.signed, t.signature[:]) {
				b.Error("the signature does not hold")
			}
		}
	})
}

func BenchmarkCeilingDigest(b *testing.B) {
	w := newWorld(b)
	token := w.mint(b, delegated(b))
	b.ReportAllocs()
	b.SetBytes(int64(len(token)))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			sha256.Sum256(token)
		}
	})
}

func BenchmarkMint(b *testing.B) {
	w := newWorld(b)
	g := delegated(b)
	w.minter.checker = nobody{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		room := make([]byte, 0, MaxTokenBytes)
		for pb.Next() {
			if _, err := w.minter.Mint(room, g); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkWriteClaims(b *testing.B) {
	g := delegated(b)
	b.ReportAllocs()
	for b.Loop() {
		var w writer
		if err := w.claims(issuer, g.Session(), g.Handles()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	w := newWorld(b)
	token := w.mint(b, delegated(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyCold(b *testing.B) {
	w := newWorld(b)
	benchmarkVerify(b, w, w.newVerifier(b, nil))
}

func BenchmarkVerifyCached(b *testing.B) {
	w := newWorld(b)
	benchmarkVerify(b, w, w.verifier)
}

func benchmarkVerify(b *testing.B, w *world, v *Verifier) {
	token := w.mint(b, delegated(b))
	v.options.Checker = nobody{}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Verify(token); err != nil {
				b.Error(err)
			}
		}
	})
}
