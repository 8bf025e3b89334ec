package policy

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// chooseAudience: a token is for applications that are known and that the agent is assigned to, and a scope
// that belongs to an application is granted only to an agent assigned to that application, whoever the
// token is for. A caller that names no audience gets the owners of the granted scopes, or else the issuer.
func chooseAudience(r *Request, g *Grant) *identity.Error {
	g.session.Audience = g.audienceSpace[:0]
	if len(r.Audience) > identity.MaxApplications {
		return identity.Errorf(identity.CodeInvalid, "%d audiences were asked for; at most %d are allowed", len(r.Audience), identity.MaxApplications).
			WithHint("ask for one token per group of applications")
	}
	for _, wanted := range r.Audience {
		app, ok := r.Applications.Application(wanted)
		if !ok {
			app, ok = r.Applications.ApplicationByAudience(wanted)
		}
		if !ok {
			return identity.Errorf(identity.CodeUnknownAudience, "%.*q is neither the name nor the audience of an application", identity.MaxAudienceLength, wanted).
				WithHint("list them with GET /api/v1/applications")
		}
		if !r.Agent.AssignedTo(app.Name) {
			return notAssigned(r, app).
				WithHint("assign it with PATCH /api/v1/agents/%s (applications), or leave that audience out", r.Agent.Name)
		}
		g.addAudience(r, app)
	}
	for scope := range g.session.Scopes.All() {
		app, ok := r.Applications.ApplicationOwning(scope)
		if !ok {
			continue
		}
		if !r.Agent.AssignedTo(app.Name) {
			return notAssigned(r, app).
				WithHint("scope %q belongs to that application: ask for scopes without it, or assign the agent with PATCH /api/v1/agents/%s (applications)", scope, r.Agent.Name)
		}
		if len(r.Audience) == 0 {
			g.addAudience(r, app)
		}
	}
	if len(g.session.Audience) > 0 {
		return nil
	}
	if r.Issuer == "" {
		return identity.Errorf(identity.CodeInternal, "BUG: session request without an issuer")
	}
	g.session.Audience = append(g.session.Audience, r.Issuer)
	return nil
}

func notAssigned(r *Request, app *identity.Application) *identity.Error {
	return identity.Errorf(identity.CodeApplicationNotAssigned, "agent %q is not assigned to application %q", r.Agent.Name, app.Name)
}

func (g *Grant) addAudience(r *Request, app *identity.Application) {
	if !slices.Contains(g.session.Audience, app.Audience) {
		g.session.Audience = append(g.session.Audience, app.Audience)
		g.offline = g.offline || app.Verification != identity.VerifyOnline
	}
}
