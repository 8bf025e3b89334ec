package api

import (
	"bytes"
	"context"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// document is the OpenAPI document; it is the same for every API, and slow to read.
type document struct {
	router routers.Router

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	bodies   map[string]*jsonschema.Schema // by where they are in the document; compiling one costs more than all it is used for
}

const documentURL = "https://deputy.example/openapi.json"

var published struct {
	once sync.Once
	document
	err error
}

func documentOf(t testing.TB, a *API) *document {
	t.Helper()
	published.once.Do(func() { published.err = published.read(a) })
	require.NoError(t, published.err)
	return &published.document
}

func (d *document) read(a *API) error {
	described, err := a.openapi()
	if err != nil {
		return err
	}
	loader := openapi3.NewLoader()
	parsed, err := loader.LoadFromData(described.text)
	if err != nil {
		return err
	}
	if err := parsed.Validate(loader.Context); err != nil {
		return err
	}
	if d.router, err = gorillamux.NewRouter(parsed); err != nil {
		return err
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(described.text))
	if err != nil {
		return err
	}
	d.compiler, d.bodies = jsonschema.NewCompiler(), map[string]*jsonschema.Schema{}
	d.compiler.DefaultDraft(jsonschema.Draft2020) // which the schemas of OpenAPI 3.1 are
	d.compiler.AssertFormat()
	return d.compiler.AddResource(documentURL, whole)
}

// body returns the schema of what a route answers.
func (d *document) body(t testing.TB, route *routers.Route, status int, media string) *jsonschema.Schema {
	t.Helper()
	answers := strconv.Itoa(status)
	if route.Operation.Responses.Status(status) == nil {
		answers = "default"
	}
	path := []string{"paths", route.Path, strings.ToLower(route.Method), "responses", answers, "content", media, "schema"}
	for i := range path {
		path[i] = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path[i])
	}
	at := documentURL + "#/" + strings.Join(path, "/")
	d.mu.Lock()
	defer d.mu.Unlock()
	schema, ok := d.bodies[at]
	if !ok {
		var err error
		schema, err = d.compiler.Compile(at)
		require.NoError(t, err)
		d.bodies[at] = schema
	}
	return schema
}

// conforms holds every answer to the document.
func (n *node) conforms(request *http.Request, a answer) {
	n.t.Helper()
	require.NotEmpty(n.t, a.Header.Get(wire.HeaderRequestID), "every answer has a request id")
	route, params, err := n.document.router.FindRoute(request)
	if err != nil { // no such path or method: a problem all the same
		if request.Method != http.MethodHead && request.Method != http.MethodOptions {
			a.problem()
		}
		return
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: request, PathParams: params, Route: route},
		Status:                 a.Status, Header: a.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	input.SetBodyBytes(a.Body)
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err == nil && strings.HasSuffix(media, "json") && len(a.Body) > 0 {
		input.Options.ExcludeResponseBody = true
		body, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.Body))
		require.NoError(n.t, err, "%s %s: %s", request.Method, request.URL.Path, a.Body)
		require.NoError(n.t, n.document.body(n.t, route, a.Status, media).Validate(body), "%s %s: %s", request.Method, request.URL.Path, a.Body)
	}
	require.NoError(n.t, openapi3filter.ValidateResponse(context.Background(), input), "%s %s: %s", request.Method, request.URL.Path, a.Body)
}
