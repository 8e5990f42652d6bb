"""MusicGen as a custom container of Vertex AI: text in, WAV out.

``__main__`` reads the settings and has ``serving`` put it together; nothing else knows all parts:

=============  ==========================================================================================
``settings``   what the environment says, checked once; whether the licence of the weights was acknowledged
``contract``   the body of a prediction, its answer, and what is refused
``wav``        sizes and writing of 16-bit PCM WAV
``worker``     one thread that has the model, and who waits for it
``app``        the routes: health and predict
``storage``    Cloud Storage: weights from it, clips into it
``studio``     the loaded model: a prompt and seeds become WAV files
``composing``  the codes of a clip, window by window, each clip with randomness of its own
=============  ==========================================================================================

Only ``studio`` and ``composing`` import torch, and only ``storage`` Google's client; `worker.Studio` is what
the rest knows of the model.
"""
