package signin

import (
	"errors"
	"net/http"

	"github.com/portico-id/portico/broker/audit"
	"github.com/portico-id/portico/broker/flow"
	"github.com/portico-id/portico/broker/registry"
	"github.com/portico-id/portico/broker/store"
	"github.com/portico-id/portico/connectors"
)

// failure is how a kind of upstream failure is told: to the person, and to the app if they go back to it.
type failure struct {
	status         int
	title, message string // the message is about "%s", the provider's name
	toDo           string
	code           string // RFC 6749 section 4.1.2.1
	description    string
}

// failures has a row for every connectors.Kind.
var failures = map[connectors.Kind]failure{
	connectors.Denied: {
		status: http.StatusForbidden, title: "You did not sign in",
		message: "You or %s said no, so nobody was signed in.",
		toDo:    "Go back to the app, or try again if that was not what you wanted.",
		code:    "access_denied", description: "the sign-in was denied at the provider",
	},
	connectors.Expired: {
		status: http.StatusBadRequest, title: "That sign-in has expired",
		message: "The answer from %s was too old or had been used before.",
		toDo:    "Try again: signing in once more mends this.",
		code:    "server_error", description: "the provider's code was expired or used",
	},
	connectors.Unavailable: {
		status: http.StatusBadGateway, title: "The provider is not answering",
		message: "%s could not be reached or is having trouble.",
		toDo:    "Try again in a moment, or sign in another way.",
		code:    "temporarily_unavailable", description: "the provider is not available",
	},
	connectors.Timeout: {
		status: http.StatusGatewayTimeout, title: "The provider took too long",
		message: "%s did not answer in time.",
		toDo:    "Try again in a moment, or sign in another way.",
		code:    "temporarily_unavailable", description: "the provider did not answer in time",
	},
	connectors.RateLimited: {
		status: http.StatusServiceUnavailable, title: "Too many sign-ins at once",
		message: "%s asked us to slow down.",
		toDo:    "Wait a minute and try again, or sign in another way.",
		code:    "temporarily_unavailable", description: "the provider limits the rate of sign-ins",
	},
	connectors.Malformed: {
		status: http.StatusBadGateway, title: "The provider's answer made no sense",
		message: "%s sent something that could not be understood.",
		toDo:    "Try again, or sign in another way.",
		code:    "server_error", description: "the provider's answer could not be understood",
	},
	connectors.Untrusted: {
		status: http.StatusBadGateway, title: "That answer could not be trusted",
		message: "What came back did not prove that it was from %s and meant for this sign-in, so it was thrown away.",
		toDo:    "Try again. If it happens again, tell the people who run this service.",
		code:    "server_error", description: "the provider's answer failed verification",
	},
	connectors.Misconfigured: {
		status: http.StatusBadGateway, title: "This way to sign in is not set up right",
		message: "%s does not accept this service as it is registered there.",
		toDo:    "Sign in another way, and tell the people who run this service.",
		code:    "server_error", description: "the provider refused the broker's registration",
	},
	connectors.NotAllowed: {
		status: http.StatusForbidden, title: "That account may not sign in here",
		message: "You signed in at %s, but that account is not one of those that may sign in here.",
		toDo:    "Sign in with another account, or ask the people who run this service.",
		code:    "access_denied", description: "the account may not sign in here",
	},
}

// upstreamFailed shows what went wrong at a provider, with the ways on: back to the app, which is told the
// right error, or another try. The flow stays open until the person decides.
func (s *Service) upstreamFailed(w http.ResponseWriter, r *http.Request, doc *flow.Doc, client *registry.Client, err error) {
	kind := connectors.KindOf(err)
	how, known := failures[kind]
	if !known {
		how = failures[connectors.Unavailable]
	}
	doc.Value.Failure = &flow.Failure{Code: how.code, Description: how.description}
	if saveErr := s.o.Flows.Save(r.Context(), doc); saveErr != nil {
		if errors.Is(saveErr, store.ErrConflict) {
			s.toPage(w, r, doc.ID)
			return
		}
		s.showError(w, r, nil, *ourFault(errors.Join(err, saveErr)))
		return
	}
	name := "The provider"
	var upstream *connectors.Error
	if errors.As(err, &upstream) {
		name = s.displayName(upstream.Connector)
		if kind == connectors.Untrusted {
			s.record(r, audit.Event{Kind: audit.SigninRefused, Connector: upstream.Connector, ClientID: client.ID, Reason: upstream.Error()})
		}
	}
	s.showError(w, r, doc, ErrorPage{
		Status:  how.status,
		Title:   how.title,
		Message: sprintName(how.message, name),
		ToDo:    how.toDo,
		Cause:   err,
		app:     client,
	})
}

// again shows the flow's page once more after a failure.
func (s *Service) again(w http.ResponseWriter, r *http.Request, doc *flow.Doc, _ *registry.Client) {
	s.toPage(w, r, doc.ID)
}

// returnToApp ends a flow that failed upstream with the error that the app is to be told.
func (s *Service) returnToApp(w http.ResponseWriter, r *http.Request, doc *flow.Doc, _ *registry.Client) {
	f := &doc.Value
	if !f.Over() {
		told := flow.Failure{Code: "access_denied", Description: "the person went back without signing in"}
		if f.Failure != nil {
			told = *f.Failure
		}
		f.Fail(told.Code, told.Description)
	}
	s.advance(w, r, doc)
}
