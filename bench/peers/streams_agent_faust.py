"""A Faust agent that does nothing."""

from faust_worker import app, hit, name, run


@app.agent(app.topic(name, key_serializer='raw', value_serializer='json'))
async def hitting(stream):
    async for _ in stream:
        hit()


run()
