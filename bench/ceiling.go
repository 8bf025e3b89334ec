package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/bench/load"
)

// Ceiling names a server that does one thing only: what a subject can't be faster than.
type Ceiling string

// The ceilings. Each reads the very request that the subject reads, and answers as many bytes.
const (
	CeilingEmpty  Ceiling = "empty"  // answers a constant
	CeilingSign   Ceiling = "sign"   // signs as many bytes as a token has before its signature, and answers the token
	CeilingVerify Ceiling = "verify" // verifies the signature of the token in the request, each time
	CeilingLookup Ceiling = "lookup" // hashes the token in the request and looks it up
)

// ceilings lists them all, in the order they are shown.
func ceilings() []Ceiling { return []Ceiling{CeilingEmpty, CeilingSign, CeilingVerify, CeilingLookup} }

// CeilingOptions say what the ceilings answer.
type CeilingOptions struct {
	Kinds      []Ceiling
	BodyBytes  int // of every answer
	TokenBytes int // of the token that CeilingSign makes

	// VerifyKey is the public key that CeilingVerify verifies by, as a JWK's x has it; "": that of CeilingSign.
	VerifyKey string
}

// Sizes of ceilings where the caller gives none: those of the figures that the project compares itself to.
const (
	DefaultBodyBytes  = 300
	DefaultTokenBytes = 690
	maxTokenBytes     = 4096
)

const (
	// signaturePart is an Ed25519 signature as a token's last segment, with the dot before it.
	signaturePart = 1 + (ed25519.SignatureSize*8+5)/6
	// ceilingBodyLimit and the timeouts of the ceilings' server are roomy: it serves one generator on loopback.
	ceilingBodyLimit = 1 << 20
	ceilingTimeout   = 30 * time.Second
	signRatePath     = "/sign-rate"
	longestSignRate  = 10 * time.Second
)

func (o *CeilingOptions) validate() error {
	if len(o.Kinds) == 0 {
		return fmt.Errorf("no ceiling named; there are %v", ceilings())
	}
	if o.BodyBytes < 32 || o.BodyBytes > load.MaxResponseBytes/2 {
		return fmt.Errorf("body has %d bytes; it must have 32 to %d", o.BodyBytes, load.MaxResponseBytes/2)
	}
	if o.TokenBytes < 128 || o.TokenBytes > maxTokenBytes {
		return fmt.Errorf("token has %d bytes; it must have 128 to %d", o.TokenBytes, maxTokenBytes)
	}
	return nil
}

// ceilingAddresses is the line that ServeCeilings writes once it listens: host:port of each kind.
type ceilingAddresses map[Ceiling]string

// ServeCeilings serves the ceilings on loopback, each on a port of its own. It reads the tokens that
// CeilingLookup knows from in, one a line up to an empty line, writes the addresses to out as one line of
// JSON, and serves until in ends: a parent that dies leaves no server behind.
func ServeCeilings(ctx context.Context, o CeilingOptions, in io.Reader, out io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	known, err := readTokens(lines, o.BodyBytes)
	if err != nil {
		return err
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)) // signs nothing that anybody trusts

	addresses := make(ceilingAddresses, len(o.Kinds))
	failed := make(chan error, len(o.Kinds))
	var servers []*fasthttp.Server
	defer func() {
		for _, server := range servers {
			_ = server.Shutdown() // only ever fails to close a listener that the process takes with it
		}
	}()
	for _, kind := range o.Kinds {
		handler, err := ceilingHandler(kind, key, o, known)
		if err != nil {
			return err
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listening for ceiling %s: %w", kind, err)
		}
		server := &fasthttp.Server{
			Handler: handler, ReadTimeout: ceilingTimeout, WriteTimeout: ceilingTimeout,
			MaxRequestBodySize: ceilingBodyLimit, Concurrency: 2 * MaxConcurrency, CloseOnShutdown: true,
			Logger: log.New(io.Discard, "", 0), // of connections that broke: the generator counts them

		}
		servers = append(servers, server)
		addresses[kind] = listener.Addr().String()
		go func() { failed <- server.Serve(listener) }()
	}
	if err := json.NewEncoder(out).Encode(addresses); err != nil {
		return fmt.Errorf("writing the addresses: %w", err)
	}
	return untilEnd(ctx, in, failed)
}

// cache is what the lookup ceiling holds: the answers to the tokens it knows, by their hash.
type cache struct {
	lock    sync.RWMutex
	answers map[[sha256.Size]byte][]byte
}

func readTokens(lines *bufio.Scanner, bodyBytes int) (*cache, error) {
	known := &cache{answers: make(map[[sha256.Size]byte][]byte)}
	answer := padded(`{"active":true`, bodyBytes)
	for lines.Scan() && lines.Text() != "" {
		if len(known.answers) == MaxWarmTokens {
			return nil, fmt.Errorf("more than %d tokens", MaxWarmTokens)
		}
		known.answers[sha256.Sum256(lines.Bytes())] = answer
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading tokens: %w", err)
	}
	return known, nil
}

// padded is a JSON object of so many bytes that begins with start.
func padded(start string, size int) []byte {
	const frame = `,"pad":""}`
	fill := max(0, size-len(start)-len(frame))
	return []byte(start + `,"pad":"` + strings.Repeat("x", fill) + `"}`)
}

func ceilingHandler(kind Ceiling, key ed25519.PrivateKey, o CeilingOptions, known *cache) (fasthttp.RequestHandler, error) {
	switch kind {
	case CeilingEmpty:
		answer := padded(`{"ok":true`, o.BodyBytes)
		return func(ctx *fasthttp.RequestCtx) {
			if string(ctx.Path()) == signRatePath {
				signRate(ctx, key, o.TokenBytes)
				return
			}
			ctx.SetContentType("application/json")
			ctx.SetBody(answer)
		}, nil
	case CeilingSign:
		return signHandler(key, o), nil
	case CeilingVerify:
		return verifyHandler(key, o)
	case CeilingLookup:
		return known.handle, nil
	}
	return nil, fmt.Errorf("ceiling is %q; there are %v", kind, ceilings())
}

// signHandler makes a token the fastest way there is: header and claims are the same bytes each time, so all
// that remains is to sign them, to spell the signature, and to wrap the token in an answer.
func signHandler(key ed25519.PrivateKey, o CeilingOptions) fasthttp.RequestHandler {
	input := signingInput(o.TokenBytes)
	const before = `{"access_token":"`
	after := padded(`","token_type":"Bearer"`, o.BodyBytes-len(before)-o.TokenBytes)
	return func(ctx *fasthttp.RequestCtx) {
		signature := ed25519.Sign(key, input)
		ctx.SetContentType("application/json")
		body := ctx.Response.BodyWriter()
		var spelled [signaturePart]byte
		spelled[0] = '.'
		base64.RawURLEncoding.Encode(spelled[1:], signature)
		// Writes to a response's buffer don't fail.
		_, _ = io.WriteString(body, before)
		_, _ = body.Write(input)
		_, _ = body.Write(spelled[:])
		_, _ = body.Write(after)
	}
}

// signingInput stands for header and claims of a token of so many bytes.
func signingInput(tokenBytes int) []byte {
	return bytes.Repeat([]byte("e"), tokenBytes-signaturePart)
}

// handle answers as introspection of a known token must: parse the form, as RFC 7662 asks by one, hash the
// token, look it up.
func (c *cache) handle(ctx *fasthttp.RequestCtx) {
	token := ctx.PostArgs().Peek("token")
	if len(token) == 0 {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	hash := sha256.Sum256(token)
	c.lock.RLock()
	answer, ok := c.answers[hash]
	c.lock.RUnlock()
	if !ok {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(answer)
}

// verifyHandler answers as introspection of a token that is not known must: parse the form, and verify the signature.
func verifyHandler(key ed25519.PrivateKey, o CeilingOptions) (fasthttp.RequestHandler, error) {
	public := key.Public().(ed25519.PublicKey)
	if o.VerifyKey != "" {
		text, err := base64.RawURLEncoding.DecodeString(o.VerifyKey)
		if err != nil || len(text) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the key to verify by is not an Ed25519 public key of %d bytes in base64url", ed25519.PublicKeySize)
		}
		public = text
	}
	answer := padded(`{"active":true`, o.BodyBytes)
	return func(ctx *fasthttp.RequestCtx) {
		token := ctx.PostArgs().Peek("token")
		dot := bytes.LastIndexByte(token, '.')
		var signature [ed25519.SignatureSize]byte
		if dot < 0 || len(token)-dot != signaturePart {
			ctx.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		if _, err := base64.RawURLEncoding.Decode(signature[:], token[dot+1:]); err != nil {
			ctx.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		if !ed25519.Verify(public, token[:dot], signature[:]) {
			ctx.SetStatusCode(fasthttp.StatusForbidden)
			return
		}
		ctx.SetContentType("application/json")
		ctx.SetBody(answer)
	}, nil
}

// signRate signs for as long as the query's ms says and answers how many signatures a second that gave. It
// runs in the ceilings' process because that is the one on the measured core.
func signRate(ctx *fasthttp.RequestCtx, key ed25519.PrivateKey, tokenBytes int) {
	ms, err := ctx.QueryArgs().GetUint("ms")
	if err != nil || time.Duration(ms)*time.Millisecond > longestSignRate {
		ctx.SetStatusCode(fasthttp.StatusBadRequest)
		return
	}
	input := signingInput(tokenBytes)
	const batch = 16 // signatures between looks at the clock
	signed := 0
	start := time.Now()
	elapsed := time.Duration(0)
	for elapsed < time.Duration(ms)*time.Millisecond {
		for range batch {
			ed25519.Sign(key, input)
		}
		signed += batch
		elapsed = time.Since(start)
	}
	ctx.SetBodyString(strconv.FormatFloat(float64(signed)/elapsed.Seconds(), 'f', 1, 64))
}

// errCeilingStart means that the ceilings' process did not say where it listens.
var errCeilingStart = errors.New("the ceilings' process did not come up")
