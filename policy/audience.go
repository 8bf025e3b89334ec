package policy

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// chooseAudience: a token is for applications that are known and that the agent is assigned to, and a scope
// that belongs to an application is granted only to an agent assigned to that application, whoever the
// token is for. A caller that names no audience gets the owners of the granted scopes, or else the issuer.
//
// A hop may only narrow: it reaches nothing that its parent's token was not for. One that names no audience gets those
// owners that the parent has, too, or else all that the parent has.
func chooseAudience(r *Request, g *Grant) *identity.Error {
	g.session.Audience, g.applications = g.audienceSpace[:0], g.appSpace[:0]
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
		if r.Parent != nil && !slices.Contains(r.Parent.Audience, app.Audience) {
			return identity.Errorf(identity.CodeUnknownAudience, "application %q is not in the audience of the parent session %s; a hop may only narrow", app.Name, r.Parent.ID).
				WithHint("leave that audience out, or exchange a parent token that has it")
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
		if len(r.Audience) == 0 && (r.Parent == nil || slices.Contains(r.Parent.Audience, app.Audience)) {
			g.addAudience(r, app)
		}
	}
	if len(g.session.Audience) > 0 {
		return nil
	}
	if r.Parent != nil {
		return inheritAudience(r, g)
	}
	if r.Issuer == "" {
		return identity.Errorf(identity.CodeInternal, "BUG: session request without an issuer")
	}
	g.session.Audience = append(g.session.Audience, r.Issuer)
	return nil
}

// inheritAudience takes over what the parent's token is for. What of it is no application is the issuer itself, of this
// day or an earlier one, which nobody is assigned to.
func inheritAudience(r *Request, g *Grant) *identity.Error {
	for _, uri := range r.Parent.Audience {
		app, ok := r.Applications.ApplicationByAudience(uri)
		if !ok {
			g.session.Audience = append(g.session.Audience, uri)
			continue
		}
		if !r.Agent.AssignedTo(app.Name) {
			return notAssigned(r, app).
				WithHint("name an audience of the parent session that it is assigned to, or assign it with PATCH /api/v1/agents/%s (applications)", r.Agent.Name)
		}
		g.addAudience(r, app)
	}
	if len(g.session.Audience) == 0 {
		return identity.Errorf(identity.CodeInternal, "BUG: parent session without an audience")
	}
	return nil
}

func notAssigned(r *Request, app *identity.Application) *identity.Error {
	return identity.Errorf(identity.CodeApplicationNotAssigned, "agent %q is not assigned to application %q", r.Agent.Name, app.Name)
}

func (g *Grant) addAudience(r *Request, app *identity.Application) {
	if !slices.Contains(g.session.Audience, app.Audience) {
		g.session.Audience = append(g.session.Audience, app.Audience)
		g.applications = append(g.applications, app)
		g.offline = g.offline || app.Verification != identity.VerifyOnline
	}
}
