package tokens

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// Signer is the key that one node signs tokens with. It is made on the node and never leaves it.
type Signer struct {
	private ed25519.PrivateKey
	kid     string
	header  string            // the token's first segment and the dot after it
	handles []identity.Handle // the key's handle, ready to be asked about
	note    Note
}

// Note is what a key file tells of its key, so that it is known also after a crash.
type Note struct {
	Made  uint64           // log index that its node had applied when it made the key; 0: before it had any
	Since identity.Instant // when it began to sign, by the cluster's time; 0: it has signed nothing, or nobody noted it
}

// PEM headers of a Note. A file without them has the zero Note.
const (
	headerMade  = "Made-At-Index"
	headerSince = "Signs-Since" // milliseconds since the epoch
)

// signerBlock is a PEM type of Deputy's own, so that no other key (the node's identity above all, which lies
// in the same folder) is ever taken for one that signs tokens.
const signerBlock = "DEPUTY TOKEN KEY"

// maxSignerFile bounds what is read before it is looked at; a key file has about 120 bytes.
const maxSignerFile = 4 << 10

// GenerateSigner makes a key that is not stored anywhere: its tokens outlive it only by its public half.
func GenerateSigner() (*Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a token key: %w", err)
	}
	return newSigner(private), nil
}

// LoadOrCreateSigner reads the key at path, or makes one and stores it durably with mode 0600 before
// returning. Of two processes that make it at the same time one wins, and both return its key.
//
// A file that others may read, or that holds anything but a token key, is an error: it is neither used nor
// overwritten.
func LoadOrCreateSigner(path string) (*Signer, error) {
	signer, err := loadSigner(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	if signer, err = GenerateSigner(); err != nil {
		return nil, err
	}
	err = privatefile.Create(path, signer.encode())
	if errors.Is(err, fs.ErrExist) {
		return loadSigner(path)
	}
	if err != nil {
		return nil, fmt.Errorf("storing the token key %s: %w", path, err)
	}
	return signer, nil
}

// LoadSigner reads the key at path, under the rules of LoadOrCreateSigner. Where there is none the error wraps
// fs.ErrNotExist.
func LoadSigner(path string) (*Signer, error) { return loadSigner(path) }

// Store writes the key with a note to path, in place of whatever is there, durably and with mode 0600. It returns
// the signer that bears the note; the receiver stays as it is.
func (s *Signer) Store(path string, n Note) (*Signer, error) {
	noted := *s
	noted.note = n
	if err := privatefile.Replace(path, noted.encode()); err != nil {
		return nil, fmt.Errorf("storing the token key %s: %w", path, err)
	}
	return &noted, nil
}

func (s *Signer) encode() []byte {
	block := &pem.Block{Type: signerBlock, Bytes: s.private.Seed()}
	if s.note != (Note{}) {
		block.Headers = map[string]string{
			headerMade:  strconv.FormatUint(s.note.Made, 10),
			headerSince: strconv.FormatInt(int64(s.note.Since), 10),
		}
	}
	return pem.EncodeToMemory(block)
}

// parseNote reads the headers of a key file: both or none.
func parseNote(headers map[string]string) (n Note, ok bool) {
	if len(headers) == 0 {
		return n, true
	}
	made, err := strconv.ParseUint(headers[headerMade], 10, 64)
	since, sinceErr := strconv.ParseInt(headers[headerSince], 10, 64)
	return Note{Made: made, Since: identity.Instant(since)}, err == nil && sinceErr == nil && since >= 0 && len(headers) == 2
}

func loadSigner(path string) (*Signer, error) {
	// Lstat, and before opening: a link would say nothing of the mode, and opening a pipe would hang.
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the token key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("token key %s is not a regular file: move it away and start again, and the node makes a new key", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("token key %s has mode %04o, so others may have read it: if nobody has, chmod 600 it; "+
			"else revoke the handle of the key, delete the file and start again, and the node makes a new key", path, mode)
	}
	content, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the token key %s: %w", path, err)
	}
	signer, ok := decodeSigner(content)
	if !ok {
		return nil, fmt.Errorf("token key %s is damaged or is another kind of file: it must be one PEM block %q of %d bytes; "+
			"bring back the right file, or move this one away and start again: the node makes a new key, "+
			"and tokens of the old one stay good", path, signerBlock, ed25519.SeedSize)
	}
	return signer, nil
}

func decodeSigner(content []byte) (*Signer, bool) {
	block, rest := pem.Decode(content)
	if block == nil || block.Type != signerBlock || len(block.Bytes) != ed25519.SeedSize || len(rest) != 0 {
		return nil, false
	}
	note, ok := parseNote(block.Headers)
	if !ok {
		return nil, false
	}
	signer := newSigner(ed25519.NewKeyFromSeed(block.Bytes))
	signer.note = note
	return signer, true
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	return io.ReadAll(io.LimitReader(f, maxSignerFile))
}

func newSigner(private ed25519.PrivateKey) *Signer {
	kid := thumbprint(private.Public().(ed25519.PublicKey))
	header := `{"alg":"` + algorithm + `","kid":"` + kid + `","typ":"` + tokenType + `"}`
	return &Signer{
		private: private,
		kid:     kid,
		header:  base64.RawURLEncoding.EncodeToString([]byte(header)) + ".",
		handles: []identity.Handle{identity.KeyHandle(kid)},
	}
}

// KID is the key's thumbprint (RFC 7638), which names it in tokens, in the JWKS and in its handle.
func (s *Signer) KID() string { return s.kid }

// Note is what the key's file tells of it.
func (s *Signer) Note() Note { return s.note }

// Public returns the half that verifies.
func (s *Signer) Public() ed25519.PublicKey { return s.private.Public().(ed25519.PublicKey) }

// String names the key and never shows its private half, whatever a log makes of a Signer.
func (s *Signer) String() string { return "token key " + s.kid }

// GoString is String, for the verb that would else print every field.
func (s *Signer) GoString() string { return s.String() }

// SigningKey describes the public half for replication. It must have been applied by every node that answers
// for the cluster before the signer is handed to a Minter.
func (s *Signer) SigningKey(node string, now identity.Instant) identity.SigningKey {
	return identity.SigningKey{KID: s.kid, Node: node, Alg: algorithm, Public: s.Public(), Created: now}
}

// thumbprint is the SHA-256 of the key's required members in order (RFC 7638 section 3, RFC 8037 section 2).
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	digest := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// validKID reports whether text could be a thumbprint.
func validKID(text string) bool {
	if len(text) != segment.EncodedLen(sha256.Size) {
		return false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
