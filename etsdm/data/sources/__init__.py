"""Sources of images: one data set class a module, found by the registry `datasets`."""
