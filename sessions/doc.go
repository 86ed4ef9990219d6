// Package sessions keeps who is signed in at the broker, and decides how the broker's
// cookies look.
//
// broker/signin starts and ends sessions, broker/oauth asks for the current one,
// broker/console ends them for an account. The package may not know what signing in
// means, and sets no cookie but its own:
//
//   - the session cookie holds the id of a session document under a MAC and encryption, so
//     neither a leaked store nor an id seen in an ID token (sid) lets anybody in;
//   - the browser cookie holds a random value, known to nobody else, by which a flow is
//     bound to the browser that began it, against login CSRF (RFC 9700 section 4.7);
//   - where session management is on, the browser-state cookie, by which frames of apps see that the session is another
//     ([Store.ShowState]).
//
// The first two are HttpOnly and SameSite=Lax (a provider sends the person back by a cross-site
// navigation, which Strict would strip). Under an https issuer all are Secure and prefixed __Host-, so that
// no sibling domain can plant them (RFC 6265bis section 4.1.3.2). A name that arrives twice is
// taken as absent: one of the two was planted, and nothing says which.
//
// Whether a session lives is decided by its document and the injected clock, on every
// read, and never by what the browser says of a cookie's age.
package sessions
