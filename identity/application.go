package identity

// Verification says how an application checks tokens.
type Verification string

// An online verifier introspects or follows the revocation stream; an offline one only has the JWKS, so
// nobody can recall what it accepts and its tokens are kept short.
const (
	VerifyOnline  Verification = "online"
	VerifyOffline Verification = "offline"
)

// Application is a downstream system that agents call.
type Application struct {
	Name         string       `codec:"n"` // its id
	Description  string       `codec:"d,omitempty"`
	Audience     string       `codec:"a"`           // absolute URI, unique among applications
	Scopes       Scopes       `codec:"s,omitempty"` // the scopes that belong to it
	Tags         []string     `codec:"t,omitempty"` // sorted, such as production-write
	Verification Verification `codec:"v"`
	Credentials  []Credential `codec:"c,omitempty"` // for introspection
	Created      Instant      `codec:"ct"`
	Updated      Instant      `codec:"ut"`
	Revision     uint64       `codec:"r"`
}

// Validate holds every field that a caller may set to its bound.
func (a *Application) Validate() error {
	var v violations
	v.name("/name", a.Name)
	v.text("/description", a.Description, MaxDescriptionLength)
	v.uri("/audience", a.Audience, MaxAudienceLength)
	v.scopes("/scopes", a.Scopes)
	v.names("/tags", a.Tags, MaxGroups)
	switch a.Verification {
	case VerifyOnline, VerifyOffline:
	default:
		v.add("/verification", "is %q; it must be %s or %s", a.Verification, VerifyOnline, VerifyOffline)
	}
	return v.err("the application is not valid")
}
