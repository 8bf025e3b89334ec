package outbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// provider is what is used of an OpenID provider's metadata.
type provider struct {
	jwksURI string
}

// wellKnown is where the metadata of an issuer is: OpenID Connect Discovery 1.0 §4.1 has the path appended, after taking
// away one slash at the end.
func wellKnown(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

// checkIssuer applies what Discovery §2 says of an issuer's identifier.
func checkIssuer(issuer string, checkURL func(string) error) error {
	if strings.ContainsAny(issuer, "?#") {
		return &Error{Kind: KindURL, Host: hostOf(issuer), Detail: "an issuer has neither query nor fragment"}
	}
	return checkURL(wellKnown(issuer))
}

// parseProvider reads the metadata of that issuer. The issuer in it must be the same byte by byte (Discovery §4.3):
// otherwise one tenant of a provider could have its keys taken for another's. Names are matched exactly, which
// encoding/json does for maps only.
func parseProvider(issuer string, body []byte, checkURL func(string) error) (provider, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return provider{}, errors.New("it is not a JSON object")
	}
	stated, err := text(members, "issuer")
	if err != nil {
		return provider{}, err
	}
	if stated != issuer {
		return provider{}, errors.New("the issuer that it states is not exactly the one configured; compare them, down to the slash at the end")
	}
	jwksURI, err := text(members, "jwks_uri")
	if err != nil {
		return provider{}, err
	}
	if err := checkURL(jwksURI); err != nil {
		return provider{}, fmt.Errorf("its jwks_uri: %w", err)
	}
	if secure(issuer) && !secure(jwksURI) {
		return provider{}, errors.New("its jwks_uri is plain http, though the issuer is https")
	}
	return provider{jwksURI: jwksURI}, nil
}

func text(members map[string]json.RawMessage, name string) (string, error) {
	var value string
	if err := json.Unmarshal(members[name], &value); err != nil || value == "" {
		return "", fmt.Errorf("it has no %s, or not as a string", name)
	}
	return value, nil
}

func secure(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && strings.EqualFold(u.Scheme, "https")
}
