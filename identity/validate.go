package identity

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// violations gathers what is wrong with one object, so that a caller hears of everything at once.
type violations struct {
	fields []FieldError
}

// maxViolations keeps an answer readable when a body is hopeless.
const maxViolations = 16

func (v *violations) add(pointer, format string, args ...any) {
	if len(v.fields) < maxViolations {
		v.fields = append(v.fields, FieldError{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
}

func (v *violations) err(message string) error {
	if len(v.fields) == 0 {
		return nil
	}
	return &Error{Code: CodeValidation, Message: message, Fields: v.fields}
}

// ValidName reports what is wrong with a slug, as used for agents, applications and nodes, or nil.
func ValidName(name string) error {
	if name == "" {
		return fmt.Errorf("is missing")
	}
	if len(name) > MaxNameLength {
		return fmt.Errorf("has %d characters; at most %d are allowed", len(name), MaxNameLength)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		alphanumeric := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		inner := i > 0 && i < len(name)-1 && (c == '-' || c == '_' || c == '.')
		if !alphanumeric && !inner {
			return fmt.Errorf("is %q; it must be lower-case letters, digits, and '-', '_' or '.' between them", name)
		}
	}
	return nil
}

func (v *violations) name(pointer, name string) {
	if err := ValidName(name); err != nil {
		v.add(pointer, "%v", err)
	}
}

func (v *violations) names(pointer string, names []string, most int) {
	if len(names) > most {
		v.add(pointer, "has %d entries; at most %d are allowed", len(names), most)
		return
	}
	for i, name := range names {
		if err := ValidName(name); err != nil {
			v.add(fmt.Sprintf("%s/%d", pointer, i), "%v", err)
		}
	}
}

func (v *violations) text(pointer, text string, most int) {
	if !utf8.ValidString(text) {
		v.add(pointer, "is not UTF-8")
		return
	}
	if n := utf8.RuneCountInString(text); n > most {
		v.add(pointer, "has %d characters; at most %d are allowed", n, most)
	}
	for _, r := range text {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			v.add(pointer, "holds the control character %U", r)
			return
		}
	}
}

// ValidPrincipal reports what is wrong with a principal's id, or nil. OpenID Connect Core section 2 has at
// most 255 ASCII characters in a subject; the two that JSON would escape are left out as well.
func ValidPrincipal(id string) error {
	if id == "" {
		return fmt.Errorf("is missing; it is an email address or an issuer's subject")
	}
	if len(id) > MaxPrincipalLength {
		return fmt.Errorf("has %d characters; at most %d are allowed", len(id), MaxPrincipalLength)
	}
	for i := 0; i < len(id); i++ {
		if !claimSafe(id[i]) {
			return fmt.Errorf(`holds %q; only visible ASCII without '"' and '\' is allowed`, id[i])
		}
	}
	return nil
}

func (v *violations) principal(pointer, id string) {
	if err := ValidPrincipal(id); err != nil {
		v.add(pointer, "%v", err)
	}
}

func (v *violations) groups(pointer string, groups []string) {
	if len(groups) > MaxGroups {
		v.add(pointer, "has %d entries; at most %d are allowed", len(groups), MaxGroups)
		return
	}
	for i, g := range groups {
		if g == "" {
			v.add(fmt.Sprintf("%s/%d", pointer, i), "is empty")
		}
		v.text(fmt.Sprintf("%s/%d", pointer, i), g, MaxGroupLength)
	}
}

func (v *violations) labels(pointer string, labels map[string]string) {
	if len(labels) > MaxLabels {
		v.add(pointer, "has %d entries; at most %d are allowed", len(labels), MaxLabels)
		return
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key == "" {
			v.add(pointer, "holds an empty key")
		}
		v.text(pointer+"/"+key, key, MaxLabelLength)
		v.text(pointer+"/"+key, labels[key], MaxLabelLength)
	}
}

func (v *violations) scopes(pointer string, s Scopes) {
	// A Scopes made by NewScopes is always valid; one made by conversion may not be.
	canonical, err := ParseScopes(string(s))
	if err != nil {
		v.add(pointer, "%v", err)
		return
	}
	if canonical != s {
		v.add(pointer, "is not in canonical order")
	}
}

func (v *violations) between(pointer string, n, least, most int64) {
	if n < least || n > most {
		v.add(pointer, "is %d; it must be between %d and %d", n, least, most)
	}
}

// keys wants at most one of a set of public keys and the place where it is published.
func (v *violations) keys(setPointer, set, uriPointer, uri string) {
	if set != "" && uri != "" {
		v.add(setPointer, "is there beside %s; give one of the two", uriPointer)
	}
	if len(set) > MaxKeysLength {
		v.add(setPointer, "has %d bytes; at most %d are allowed", len(set), MaxKeysLength)
	}
	if uri != "" {
		v.webAddress(uriPointer, uri)
	}
}

// webAddress wants a URI that a node can fetch from.
func (v *violations) webAddress(pointer, text string) {
	v.uri(pointer, text, MaxAudienceLength)
	if !strings.HasPrefix(text, "https://") && !strings.HasPrefix(text, "http://") {
		v.add(pointer, "is %q; it must begin with https://", text)
	}
}

// uri wants an absolute URI whose characters need no JSON escape, as it is copied into tokens.
func (v *violations) uri(pointer, text string, most int) {
	if text == "" {
		v.add(pointer, "is missing; it is an absolute URI such as https://api.example.com")
		return
	}
	if len(text) > most {
		v.add(pointer, "has %d characters; at most %d are allowed", len(text), most)
		return
	}
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Fragment != "" || (u.Host == "" && u.Opaque == "") {
		v.add(pointer, "is %q; it must be an absolute URI without a fragment, such as https://api.example.com", text)
		return
	}
	for i := 0; i < len(text); i++ {
		if !claimSafe(text[i]) {
			v.add(pointer, "holds %q, which a URI must percent-encode", text[i])
			return
		}
	}
}
