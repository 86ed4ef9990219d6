package sessions

import (
	"crypto/subtle"
	"net/http"
)

// StateCookie is the browser-state cookie's name as it is set, or "" where there is none.
func (s *Store) StateCookie() string {
	if s.browserState == nil {
		return ""
	}
	return s.stateCookie
}

// ShowState makes the browser-state cookie say which session the browser has: sid's, or none where sid is "". It writes only where
// the cookie says something else, and nothing where there is no such cookie. It does no IO, and must be called before the
// response is written.
//
// The cookie is for the script of one page of ours, the check_session_iframe, which runs in a frame of the app's page. So it is
// not HttpOnly, and over https it is SameSite=None: a browser shows a Lax cookie to no frame of another site. What it holds opens
// nothing and is nobody's name. Over plain http on loopback, where browsers refuse SameSite=None, it is Lax: ports of one host are
// one site.
func (s *Store) ShowState(w http.ResponseWriter, r *http.Request, sid string) {
	if s.browserState == nil {
		return
	}
	c := &http.Cookie{Name: s.stateCookie, SameSite: http.SameSiteLaxMode}
	if s.secure {
		c.SameSite = http.SameSiteNoneMode
	}
	if sid == "" {
		if _, err := r.Cookie(s.stateCookie); err == nil {
			s.addCookie(w, c, -1)
		}
		return
	}
	c.Value = s.browserState(sid)
	if subtle.ConstantTimeCompare([]byte(soleCookie(r, s.stateCookie)), []byte(c.Value)) != 1 {
		s.addCookie(w, c, s.lifetime)
	}
}
