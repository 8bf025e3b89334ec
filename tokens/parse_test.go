package tokens

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func replace(t testing.TB, text, old, with string) string {
	t.Helper()
	require.Equal(t, 1, strings.Count(text, old), "%q in %s", old, text)
	return strings.Replace(text, old, with, 1)
}

// hostile returns tokens that must not pass, each signed with the right key where a signature helps it.
func hostile(t testing.TB, w *world) map[string][]byte {
	t.Helper()
	token := string(w.mint(t, delegated(t)))
	payload, header := payloadOf(t, []byte(token)), w.header()
	h, rest, _ := strings.Cut(token, ".")
	p, s, _ := strings.Cut(rest, ".")
	all := map[string][]byte{
		"empty":                   nil,
		"dots":                    []byte(".."),
		"two segments":            []byte(h + "." + p),
		"four segments":           []byte(token + "."),
		"no header":               []byte("." + p + "." + s),
		"no payload":              []byte(h + ".." + s),
		"no signature":            []byte(h + "." + p + "."),
		"short signature":         []byte(token[:len(token)-2]),
		"long signature":          []byte(token + "AA"),
		"space before":            []byte(" " + token),
		"trailing newline":        []byte(token + "\n"),
		"newline inside":          []byte(h + "." + p[:8] + "\n" + p[8:] + "." + s),
		"newlines for characters": []byte(h + "." + p + "." + s[:82] + "\r\n\r\n"),
		"padded signature":        []byte(token + "=="),
		"padded payload":          []byte(h + "." + p + "=." + s),
		"standard alphabet":       []byte(h + "." + p + "." + "+/" + s[2:]),
		"unused bits set":         []byte(token[:len(token)-1] + string(token[len(token)-1]+1)),
		"null bytes":              []byte(h + "." + p + "." + s[:85] + "\x00"),
		"an encrypted token":      []byte(h + "....."),
		"just brackets":           w.sign(header, "{}"),
		"nothing":                 w.sign(header, ""),
		"an array":                w.sign(header, "["+payload+"]"),
		"two objects":             w.sign(header, payload+payload),
		"something after":         w.sign(header, payload+" "),
		"space within":            w.sign(header, replace(t, payload, `"iat":`, `"iat": `)),
		"trailing comma":          w.sign(header, strings.TrimSuffix(payload, "}")+",}"),
		"not closed":              w.sign(header, strings.TrimSuffix(payload, "}")),
		"leading comma":           w.sign(header, "{,"+payload[1:]),
		"unused bits of payload":  w.signSegments(h, loosen(payload)),
		"byte order mark":         w.sign(header, "\ufeff"+payload),
	}
	for name, other := range map[string]string{
		"alg none":             replace(t, header, "EdDSA", "none"),
		"alg HS256":            replace(t, header, "EdDSA", "HS256"),
		"alg of another case":  replace(t, header, "EdDSA", "EDDSA"),
		"alg twice":            replace(t, header, `"alg":"EdDSA"`, `"alg":"EdDSA","alg":"EdDSA"`),
		"no alg":               replace(t, header, `"alg":"EdDSA",`, ``),
		"no kid":               replace(t, header, `"kid":"`+w.signer.kid+`",`, ``),
		"no typ":               replace(t, header, `,"typ":"at+jwt"`, ``),
		"typ JWT":              replace(t, header, "at+jwt", "JWT"),
		"typ in long":          replace(t, header, "at+jwt", "application/at+jwt"),
		"typ a number":         replace(t, header, `"at+jwt"`, `1`),
		"kid with a path":      replace(t, header, w.signer.kid, "../../etc/passwd"),
		"kid with a query":     replace(t, header, w.signer.kid, "x' OR '1'='1"),
		"kid as long":          replace(t, header, w.signer.kid, strings.Repeat("!", len(w.signer.kid))),
		"kid empty":            replace(t, header, w.signer.kid, ""),
		"jku":                  header[:len(header)-1] + `,"jku":"https://evil.example.com/jwks"}`,
		"x5u":                  header[:len(header)-1] + `,"x5u":"https://evil.example.com/cert"}`,
		"jwk":                  header[:len(header)-1] + `,"jwk":{"kty":"OKP"}}`,
		"jwk as text":          header[:len(header)-1] + `,"jwk":"x"}`,
		"crit":                 header[:len(header)-1] + `,"crit":["exp"]}`,
		"crit as text":         header[:len(header)-1] + `,"crit":"exp"}`,
		"zip":                  header[:len(header)-1] + `,"zip":"DEF"}`,
		"b64":                  header[:len(header)-1] + `,"b64":false}`,
		"header with space":    header + " ",
		"header escapes":       replace(t, header, `"alg"`, `"\u0061lg"`),
		"header a string":      `"x"`,
		"header of one quote":  `{"`,
		"header without colon": `{"alg"}`,
	} {
		all["header: "+name] = w.sign(other, payload)
	}
	for name, change := range map[string][2]string{
		"iss twice":                  {`"iss":`, `"iss":"https://x","iss":`},
		"exp twice":                  {`"exp":`, `"exp":1776441600,"exp":`},
		"exp a string":               {`1776441600`, `"1776441600"`},
		"exp a fraction":             {`1776441600`, `1776441600.5`},
		"exp with exponent":          {`1776441600`, `1.7764416e9`},
		"exp negative":               {`1776441600`, `-1776441600`},
		"exp with a leading zero":    {`1776441600`, `01776441600`},
		"exp zero":                   {`1776441600`, `0`},
		"exp beyond the year 9999":   {`1776441600`, `253402300800`},
		"exp beyond 64 bits":         {`1776441600`, `18446744073709551617`},
		"exp null":                   {`1776441600`, `null`},
		"no exp":                     {`"exp":1776441600,`, ``},
		"no iat":                     {`"iat":1776427200,`, ``},
		"no iss":                     {`"iss":"` + issuer + `",`, ``},
		"no jti":                     {`"jti":"` + parentSession[4:] + `",`, ``},
		"no sub":                     {`"sub":"` + person + `",`, ``},
		"no act for a user":          {`"act":{"sub":"inbox-assistant"},`, ``},
		"iss empty":                  {issuer, ``},
		"iss too long":               {issuer, strings.Repeat("i", 257)},
		"iss a number":               {`"` + issuer + `"`, `7`},
		"iss with an escape":         {issuer, `https:\/\/deputy.example.com`},
		"iss with a control":         {issuer, "https://\x01"},
		"iss with a letter of UTF-8": {issuer, "https://dépûty.example.com"},
		"sub of another":             {`"sub":"` + person, `"sub":"ceo@company.com`},
		"sub empty":                  {`"sub":"` + person, `"sub":"`},
		"aud empty":                  {`["` + drive + `","` + gmail + `"]`, `[]`},
		"aud nested":                 {`["` + drive, `[["` + drive + `"],"`},
		"aud an object":              {`["` + drive + `","` + gmail + `"]`, `{}`},
		"aud too many":               {`["` + drive, `["` + strings.Repeat(`a","`, 64) + drive},
		"client_id of another":       {`"client_id":"inbox-assistant"`, `"client_id":"file-sorter"`},
		"client_id no name":          {`"client_id":"inbox-assistant"`, `"client_id":"Inbox"`},
		"scope empty":                {`"scope":"drive.read gmail.read"`, `"scope":""`},
		"scope not sorted":           {`drive.read gmail.read`, `gmail.read drive.read`},
		"scope repeated":             {`drive.read gmail.read`, `drive.read drive.read`},
		"scope with two spaces":      {`drive.read gmail.read`, `drive.read  gmail.read`},
		"scope with an end space":    {`drive.read gmail.read`, `drive.read `},
		"scope a list":               {`"drive.read gmail.read"`, `["drive.read"]`},
		"scope too long":             {`drive.read gmail.read`, strings.Repeat("s", 129)},
		"scope with a tab":           {`drive.read gmail.read`, "drive.read\tgmail.read"},
		"jti of another":             {`"jti":"` + parentSession[4:], `"jti":"` + hopSession[4:]},
		"sid of another":             {`"sid":"` + parentSession, `"sid":"` + hopSession},
		"sid not an id":              {`"sid":"` + parentSession, `"sid":"ses_x`},
		"sid of another kind":        {`"sid":"` + parentSession, `"sid":"` + delegation.ID},
		"act empty":                  {`"act":{"sub":"inbox-assistant"}`, `"act":{}`},
		"act not a name":             {`"act":{"sub":"inbox-assistant"}`, `"act":{"sub":""}`},
		"act twice the sub":          {`{"sub":"inbox-assistant"}`, `{"sub":"inbox-assistant","sub":"inbox-assistant"}`},
		"act with more":              {`{"sub":"inbox-assistant"}`, `{"sub":"inbox-assistant","iss":"x"}`},
		"act a string":               {`{"sub":"inbox-assistant"}`, `"inbox-assistant"`},
		"act not in anc":             {`{"sub":"inbox-assistant"}`, `{"sub":"inbox-assistant","act":{"sub":"ghost"}}`},
		"act a cycle":                {`{"sub":"inbox-assistant"}`, `{"sub":"inbox-assistant","act":{"sub":"inbox-assistant"}}`},
		"act forked":                 {`{"sub":"inbox-assistant"}`, `{"act":{"sub":"a"},"act":{"sub":"b"},"sub":"inbox-assistant"}`},
		"act too deep":               {`{"sub":"inbox-assistant"}`, `{"sub":"inbox-assistant","act":{"sub":"b","act":{"sub":"c"}}}`},
		"act very deep":              {`{"sub":"inbox-assistant"}`, strings.Repeat(`{"act":`, 200) + `{"sub":"x"}` + strings.Repeat(`}`, 200)},
		"anc empty":                  {ancestry(payload), `[]`},
		"anc a string":               {ancestry(payload), `"` + parentSession + `"`},
		"anc of another":             {`["` + parentSession, `["` + hopSession},
		"anc without the user":       {`,"usr_user@company.com#93"`, ``},
		"anc of another user":        {`usr_user@company.com#93`, `usr_user@company.com.evil.org#93`},
		"anc without the delegation": {`"` + delegation.ID + `",`, ``},
		"anc without the agent":      {`"agt_inbox-assistant#417",`, ``},
		"anc without a generation":   {`agt_inbox-assistant#417`, `agt_inbox-assistant`},
		"anc with an odd generation": {`agt_inbox-assistant#417`, `agt_inbox-assistant#0417`},
		"anc of a longer name":       {`agt_inbox-assistant#417`, `agt_inbox-assistant#1#417`},
		"anc with an unknown kind":   {credential, `xyz_1`},
		"anc with a join token":      {credential, `jtk_` + credential[4:]},
		"anc with a short API token": {credential, `tok_1`},
		"anc too long":               {credential, strings.Repeat(credential+`","`, 12) + credential},
		"agent_type unknown":         {`"user-delegated"`, `"root"`},
		"agent_type null":            {`"user-delegated"`, `null`},
		"an unknown claim":           {`"iss":`, `"admin":true,"iss":`},
		"a claim of another version": {`"iss":`, `"nbf":1776427200,"iss":`},
		"cnf not a thumbprint":       {`"iss":`, `"cnf":{"jkt":"x"},"iss":`},
		"cnf empty":                  {`"iss":`, `"cnf":{},"iss":`},
		"cnf null":                   {`"iss":`, `"cnf":null,"iss":`},
		"cnf a string":               {`"iss":`, `"cnf":"` + w.signer.kid + `","iss":`},
		"cnf of another kind":        {`"iss":`, `"cnf":{"x5t#S256":"` + w.signer.kid + `"},"iss":`},
		"cnf with two keys":          {`"iss":`, `"cnf":{"jkt":"` + w.signer.kid + `","jkt":"` + w.signer.kid + `"},"iss":`},
		"cnf with more":              {`"iss":`, `"cnf":{"jkt":"` + w.signer.kid + `","kid":"x"},"iss":`},
		"cnf twice":                  {`"iss":`, `"cnf":{"jkt":"` + w.signer.kid + `"},"cnf":{"jkt":"` + w.signer.kid + `"},"iss":`},
		"a claim of another case":    {`"iss":`, `"ISS":"x","iss":`},
		"a name with an escape":      {`"iss":`, `"\u0069ss":`},
		"a name without value":       {`"iss":`, `"iss"`},
	} {
		all["claims: "+name] = w.sign(header, replace(t, payload, change[0], change[1]))
	}
	return all
}

func ancestry(payload string) string {
	start := strings.Index(payload, `"anc":`) + len(`"anc":`)
	return payload[start : start+strings.IndexByte(payload[start:], ']')+1]
}

// loosen encodes text with a bit set that stands for nothing.
func loosen(text string) string {
	encoded := []byte(encode(text + strings.Repeat(" ", (4-len(text)%3)%3)))
	encoded[len(encoded)-1]++
	return string(encoded)
}

func TestHostileTokensAreMalformed(t *testing.T) {
	w := newWorld(t)
	for name, token := range hostile(t, w) {
		t.Run(name, func(t *testing.T) {
			_, err := w.verifier.Verify(token)
			refused := requireReason(t, err, ReasonMalformed)
			require.Nil(t, refused.Claims)
			require.Less(t, len(refused.Detail), 400, "an attacker must not fill logs")
			_, err = Decode(token)
			requireReason(t, err, ReasonMalformed)
		})
	}
}

func TestOversizeTokensAreRefusedUnread(t *testing.T) {
	w := newWorld(t)
	token := w.sign(w.header(), strings.Repeat("x", MaxTokenBytes))
	_, err := w.verifier.Verify(token)
	requireReason(t, err, ReasonTooLong)
	_, err = Decode(token)
	requireReason(t, err, ReasonTooLong)
}

func TestOrderOfClaimsDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	payload := payloadOf(t, w.mint(t, delegated(t)))
	turned := "{" + `"iat":1776427200,` + replace(t, payload, `"iat":1776427200,`, "")[1:]
	claims, err := w.verifier.Verify(w.sign(replace(t, w.header(), `"alg":"EdDSA",`, ``)[:1]+`"typ":"at+jwt","alg":"EdDSA","kid":"`+w.signer.kid+`"}`, turned))
	require.NoError(t, err)
	require.Equal(t, person, claims.Principal())
}

func TestEveryChangeOfOneByteIsRefused(t *testing.T) {
	w := newWorld(t)
	token := w.mint(t, delegated(t))
	for i := range token {
		for _, c := range []byte{token[i] ^ 1, token[i] ^ 0x20, '.', 'A', '_', '\n', '='} {
			if c == token[i] {
				continue
			}
			changed := append([]byte(nil), token...)
			changed[i] = c
			_, err := w.verifier.Verify(changed)
			require.Error(t, err, "byte %d turned from %q to %q", i, token[i], c)
		}
	}
}

func TestScopesMayBeAbsent(t *testing.T) {
	w := newWorld(t)
	payload := payloadOf(t, w.mint(t, delegated(t)))
	claims, err := w.verifier.Verify(w.sign(w.header(), replace(t, payload, `"scope":"drive.read gmail.read",`, "")))
	require.NoError(t, err)
	require.Empty(t, claims.Scopes)
}
