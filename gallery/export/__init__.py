"""Images -> gallery: plan, sources, work folder, job. The only part of `gallery` that imports `processor`."""
