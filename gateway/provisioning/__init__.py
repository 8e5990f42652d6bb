"""A MusicGen endpoint on Vertex AI: what it shall be, what Google is asked for it, and the steps to take.

`plan` says what is wanted, `requests` puts it into Google's words, `deployer` takes the steps, `description`
reads what is there. All of it is plain data; only `vertex` knows Google's client, which is an extra of its
own and is never loaded into the server.
"""
