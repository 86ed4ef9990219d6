# A web app in Python that signs people in through Portico with Authlib (pip install authlib flask requests).
#   ISSUER=http://127.0.0.1:8080 CLIENT_ID=… CLIENT_SECRET=… python app.py
# Register it with the redirect URI http://127.0.0.1:5000/callback.
import os
import secrets

from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, session, url_for

app = Flask(__name__)
app.secret_key = os.environ.get("APP_SECRET") or secrets.token_bytes(32)
port = int(os.environ.get("PORT", "5000"))

oauth = OAuth(app)
oauth.register(
    "portico",
    client_id=os.environ["CLIENT_ID"],
    client_secret=os.environ["CLIENT_SECRET"],
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_kwargs={"scope": "openid profile email", "code_challenge_method": "S256"},
)


@app.get("/")
def home():
    person = session.get("person")
    if person is None:
        return '<a href="/login">Sign in</a>'
    return f"Signed in as {person['sub']}, {person.get('email', 'no email address')}"


@app.get("/login")
def login():
    return oauth.portico.authorize_redirect(url_for("callback", _external=True))


@app.get("/callback")
def callback():
    token = oauth.portico.authorize_access_token()  # checks state, nonce and the ID token's signature
    session["person"] = {name: token["userinfo"].get(name) for name in ("sub", "name", "email", "email_verified")}
    return redirect("/")


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=port)
