"""Enterprise integration patterns as composable asyncio primitives."""
