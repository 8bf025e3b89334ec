package api

import (
	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func applicationOf(r *wire.ApplicationRequest, now identity.Instant) identity.Application {
	verification := r.Verification
	if verification == "" {
		verification = identity.VerifyOnline
	}
	return identity.Application{
		Name: r.Name, Description: r.Description, Audience: r.Audience, Scopes: r.Scopes,
		Tags: sortedSet(r.Tags), Verification: verification, Created: now,
	}
}

func showApplication(a *identity.Application) wire.Application {
	return wire.Application{
		ID: a.Name, Name: a.Name, Description: a.Description, Audience: a.Audience, Scopes: a.Scopes, Tags: entries(a.Tags),
		Verification: a.Verification, Credentials: showCredentials(a.Credentials),
		CreatedAt: a.Created, UpdatedAt: a.Updated, Revision: a.Revision,
	}
}

func (a *API) createApplication(c *call) error {
	var request wire.ApplicationRequest
	if err := c.body(&request); err != nil {
		return err
	}
	application := applicationOf(&request, c.now)
	secret, err := c.wantCredential(&application.Credentials)
	if err != nil {
		return err
	}
	if err := application.Validate(); err != nil {
		return err
	}
	created, _, err := proposed[*identity.Application](a, c, fsm.CreateApplication{Application: application})
	if err != nil {
		return err
	}
	answer := showApplication(created)
	answer.Credential = showNewest(created.Name, created.Credentials, secret)
	return c.created("/api/v1/applications", created.Name, answer)
}

func (a *API) listApplications(c *call) error {
	limit, err := c.limit()
	if err != nil {
		return err
	}
	applications := c.view.Applications(c.query("after"), limit+1)
	return answerList(c, applications, limit, showApplication, func(a *identity.Application) string { return a.Name })
}

// application finds the application that the path names.
func (c *call) application() (*identity.Application, error) {
	id, err := c.param("id")
	if err != nil {
		return nil, err
	}
	application, ok := c.view.Application(id)
	if !ok {
		return nil, notFound("application", id)
	}
	return application, nil
}

func (a *API) getApplication(c *call) error {
	application, err := c.application()
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showApplication(application))
}

func (a *API) replaceApplication(c *call) error {
	current, err := c.application()
	if err != nil {
		return err
	}
	var request wire.ApplicationRequest
	if err := c.body(&request); err != nil {
		return err
	}
	return a.updateApplication(c, current, &request, 0)
}

func (a *API) patchApplication(c *call) error {
	current, err := c.application()
	if err != nil {
		return err
	}
	if err := c.wantMedia(mediaMergePatch, contentTypeJSON); err != nil {
		return err
	}
	request, err := mergePatch(wire.ApplicationRequest{
		Name: current.Name, Description: current.Description, Audience: current.Audience, Scopes: current.Scopes,
		Tags: current.Tags, Verification: current.Verification,
	}, c.ctx.PostBody())
	if err != nil {
		return err
	}
	return a.updateApplication(c, current, &request, current.Revision)
}

func (a *API) updateApplication(c *call, current *identity.Application, request *wire.ApplicationRequest, ifRevision uint64) error {
	if request.Name != current.Name {
		return invalidField("/name", "is %q; an application's name is its id and can't change from %q", request.Name, current.Name)
	}
	application := applicationOf(request, c.now)
	if err := application.Validate(); err != nil {
		return err
	}
	updated, _, err := proposed[*identity.Application](a, c, fsm.UpdateApplication{Application: application, IfRevision: ifRevision})
	if err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, showApplication(updated))
}

func (a *API) deleteApplication(c *call) error {
	application, err := c.application()
	if err != nil {
		return err
	}
	_, result, err := stopped[*identity.Application](a, c, fsm.DeleteApplication{Name: application.Name})
	if err != nil {
		return err
	}
	return c.answerStop(&wire.Deleted{ID: application.Name, Known: true, Index: result.Index}, nil)
}
