package oauth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/portico-id/portico/broker/registry"
)

// OpenID Connect Session Management: an app's page keeps a frame of ours, and asks it now and then whether the person is still
// signed in here as when the app was answered. No request is made for that: the frame's script compares the app's session_state with a
// cookie.

// SessionManagement is what is needed for it.
type SessionManagement struct {
	// BrowserState is what the cookie holds for a session.
	BrowserState func(sid string) string
	// Cookie is the cookie's name.
	Cookie string
}

// logoutMetadata are OpenID Connect Front-Channel Logout section 3, Back-Channel Logout section 2.1 and Session Management section 3.3.
type logoutMetadata struct {
	FrontchannelLogout        bool   `json:"frontchannel_logout_supported"`
	FrontchannelLogoutSession bool   `json:"frontchannel_logout_session_supported"`
	BackchannelLogout         bool   `json:"backchannel_logout_supported"`
	BackchannelLogoutSession  bool   `json:"backchannel_logout_session_supported"`
	CheckSessionIframe        string `json:"check_session_iframe,omitempty"`
}

func (s *Server) logoutMetadata() logoutMetadata {
	m := logoutMetadata{FrontchannelLogout: true, FrontchannelLogoutSession: true, BackchannelLogout: true, BackchannelLogoutSession: true}
	if s.sessions != nil {
		m.CheckSessionIframe = s.issuer + PathCheckSession
	}
	return m
}

// sessionState is the session_state of an authorization response (section 3): nobody without the cookie can tell what it stands
// for, it fits no other client and no other origin, and two of one session are not alike.
func sessionState(clientID, origin, browserState, salt string) string {
	sum := sha256.Sum256([]byte(clientID + " " + origin + " " + browserState + " " + salt))
	return hex.EncodeToString(sum[:]) + "." + salt
}

// newSessionState is sessionState for a client's redirect URI, or "" where it is the address of no web page, so that
// there is nobody to ask.
func (s *Server) newSessionState(clientID, redirectURI, sid string) string {
	origin := registry.Origin(redirectURI)
	if s.sessions == nil || origin == "" || sid == "" {
		return ""
	}
	return sessionState(clientID, origin, s.sessions.BrowserState(sid), rand.Text())
}

// checkSessionScript answers "unchanged", "changed" or "error" to the page that frames it (section 3.2), as sessionState is made. Where
// the browser keeps our cookies from frames of other sites, it says so as an error: "changed" would have apps
// ask for a new sign-in over and over. It reaches nothing but the cookie, and answers nobody but who asked.
const checkSessionScript = `"use strict";
const name = "{cookie}=";
addEventListener("message", async (event) => {
  if (!event.source || event.origin === "null" || typeof event.data !== "string") return;
  let answer = "error";
  try {
    const asked = /^([!-~]+) ([0-9a-f]{64})\.([A-Z2-7]{26})$/.exec(event.data);
    if (asked && (!document.hasStorageAccess || await document.hasStorageAccess())) {
      const pair = document.cookie.split("; ").find((pair) => pair.startsWith(name));
      const text = [asked[1], event.origin, pair ? pair.slice(name.length) : "", asked[3]].join(" ");
      const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      const hex = Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, "0")).join("");
      answer = hex === asked[2] ? "unchanged" : "changed";
    }
  } catch {}
  event.source.postMessage(answer, event.origin);
});
`

// checkSessionFrame serves the check_session_iframe (section 3.3): the one page here that others may frame. Nothing can be pressed
// on it, and it can do nothing but run its script.
func checkSessionFrame(cookie string) http.HandlerFunc {
	script := strings.ReplaceAll(checkSessionScript, "{cookie}", cookie)
	body := []byte("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Session state</title>\n<script>" + script + "</script></html>\n")
	sum := sha256.Sum256([]byte(script))
	policy := "default-src 'none'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors *"
	etag := etagOf(body)
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Del("X-Frame-Options")
		h.Set("Content-Security-Policy", policy)
		serveDocument(w, r, "text/html; charset=utf-8", body, etag, metadataMaxAge)
	}
}
